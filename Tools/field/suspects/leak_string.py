"""A text that gets longer and longer."""

import io

from work import requests

log = io.StringIO()

for number in requests():
    log.write(f'request {number} was handled\n')    # leak

"""Run what class Python of docs_session.py sends; import next to nothing."""
import os
import sys

requests = os.fdopen(os.dup(0))
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
sys.path[0] = ''
main = sys.modules['__main__'] = type(sys)('__main__')

for request in requests:
    name, mode, text = eval(request)
    if 'linecache' in sys.modules:
        sys.modules['linecache'].checkcache()
    status = 0
    try:
        exec(compile(text, name, mode, dont_inherit=True), main.__dict__)
    except BaseException as exc:
        sys.excepthook(type(exc), exc, exc.__traceback__.tb_next)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(1, b'\n<<end of request, status %d>>\n' % status)

"""A receiver of OTLP over HTTP, as OpenTelemetry's variables name it."""

import gzip
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request

from pytracemalloc.errors import CommandError, UsageError, reason_of
from tracemalloc.printable import printable

ENDPOINT = 'OTEL_EXPORTER_OTLP_ENDPOINT'
_PATH = '/v1development/profiles'
_SECONDS = 10.0
_MAX_ANSWER = 1 << 16             # bytes
_MAX_REASON = 300                 # characters that are shown


class Receiver:
    """Takes profiles at a URL."""

    def __init__(self, url=None):
        """Without a URL, it is that of the environment."""
        self.url = _find_url(url)
        self._headers = {'Content-Type': 'application/x-protobuf',
                         'Content-Encoding': 'gzip', **_read_headers()}
        # A redirected request would go on without its body.
        self._opener = urllib.request.build_opener(_NoRedirect)

    def send(self, message):
        """Send an encoded message; raise CommandError if it is refused."""
        request = urllib.request.Request(
            self.url, gzip.compress(message, 6), self._headers)
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                body = answer.read(_MAX_ANSWER)
        except urllib.error.HTTPError as exc:
            with exc:
                raise self._problem(f'{exc.code} {exc.reason}') from None
        except urllib.error.URLError as exc:
            reason = (reason_of(exc.reason)
                      if isinstance(exc.reason, Exception) else exc.reason)
            raise self._problem(reason) from None
        except (OSError, http.client.HTTPException) as exc:
            raise self._problem(reason_of(exc)) from None
        self._check(body)

    def _check(self, body):
        """A receiver may take some profiles and refuse others."""
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.profiles.v1development import (
            profiles_service_pb2)
        answer = profiles_service_pb2.ExportProfilesServiceResponse()
        try:
            answer.ParseFromString(body)
        except DecodeError:
            raise self._problem('this is no answer of an OTLP receiver'
                                ) from None
        partial = answer.partial_success
        if partial.rejected_profiles:
            raise self._problem(f'{partial.rejected_profiles} profiles were '
                                f'refused: {partial.error_message}')

    def _problem(self, reason):
        reason = printable(' '.join(str(reason).split()))[:_MAX_REASON]
        return CommandError(f'{self.url}: {reason}')


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


def _find_url(url):
    if url is None:
        url = os.environ.get('OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT')
        if url:
            return _check_url(url)
        url = os.environ.get(ENDPOINT)
        if not url:
            raise UsageError(f'no URL of a receiver; give it after the '
                             f'program, or set {ENDPOINT}')
        return _check_url(url.rstrip('/') + _PATH)
    parts = urllib.parse.urlsplit(_check_url(url))
    return url.rstrip('/') + _PATH if parts.path in ('', '/') else url


def _check_url(url):
    try:
        parts = urllib.parse.urlsplit(url)
        parts.port                # checks it
    except ValueError as exc:
        raise UsageError(f'{url}: {exc}') from None
    if parts.scheme not in ('http', 'https') or not parts.hostname:
        raise UsageError(f'{url}: give the URL of an OTLP receiver, such as '
                         f'http://collector:4318')
    return url


def _read_headers():
    text = os.environ.get('OTEL_EXPORTER_OTLP_PROFILES_HEADERS',
                          os.environ.get('OTEL_EXPORTER_OTLP_HEADERS', ''))
    return dict(read_pairs(text, 'OTEL_EXPORTER_OTLP_HEADERS'))


def read_pairs(text, variable):
    """Yield (name, value) of "name=value,name=value", values being quoted as
    in URLs."""
    for pair in filter(None, map(str.strip, text.split(','))):
        name, equals, value = pair.partition('=')
        name, value = name.strip(), urllib.parse.unquote(value.strip())
        if not equals or not name or '\n' in value or '\r' in value:
            raise UsageError(f'{variable}: {pair!r} is not NAME=VALUE')
        yield name, value

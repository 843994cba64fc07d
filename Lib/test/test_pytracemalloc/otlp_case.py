"""Profiles of OTLP, decoded by the package that OpenTelemetry publishes."""

import http.server
import sys
import threading
import unittest
from collections import namedtuple

from test.test_pytracemalloc import fetched

Sample = namedtuple('Sample', 'stack value attributes')


def import_messages(case):
    """Make opentelemetry-proto importable for a test class; SkipTest."""
    path = str(fetched.packages('otlp'))
    if path in sys.path:
        return path
    sys.path.insert(0, path)
    before = set(sys.modules)

    def forget():
        sys.path.remove(path)
        for name in set(sys.modules) - before:
            if name.partition('.')[0] in ('google', 'opentelemetry'):
                del sys.modules[name]

    case.addClassCleanup(forget)
    return path


def formats_here(case, names):
    """Return the formats that can be written: for one, PyPI is needed."""
    try:
        import_messages(case)
    except unittest.SkipTest:
        return [name for name in names if name != 'otlp']
    return names


def start_receiver(case):
    """Return a server with its `url`, all that it has `received`, and the
    `answers` that it gives first."""
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Handler)
    server.received, server.answers = [], []
    server.url = f'http://127.0.0.1:{server.server_port}'
    threading.Thread(target=server.serve_forever).start()
    case.addCleanup(server.server_close)
    case.addCleanup(server.shutdown)
    return server


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers['Content-Length'])
        server = self.server
        server.received.append((self.path, dict(self.headers),
                                self.rfile.read(length)))
        status, headers, body = (server.answers.pop(0) if server.answers
                                 else (200, {}, b''))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Message:
    """An ExportProfilesServiceRequest with the resource of one program."""

    def __init__(self, data):
        from opentelemetry.proto.collector.profiles.v1development import (
            profiles_service_pb2 as service)
        message = service.ExportProfilesServiceRequest.FromString(data)
        self.dictionary = message.dictionary
        self.strings = list(self.dictionary.string_table)
        of_resource, = message.resource_profiles
        self.resource = {item.key: self._value(item.value)
                         for item in of_resource.resource.attributes}
        scope, = of_resource.scope_profiles
        self.scope = scope.scope.name
        self.profiles = list(scope.profiles)
        self.names = [self.strings[profile.sample_type.type_strindex]
                      for profile in self.profiles]

    @staticmethod
    def _value(value):
        return getattr(value, value.WhichOneof('value'))

    def attributes(self, indices):
        return {self.strings[item.key_strindex]: self._value(item.value)
                for item in map(self.dictionary.attribute_table.__getitem__,
                                indices)}

    def frame(self, number):
        """(function, file, first line, line), or (file, build ID, address)."""
        location = self.dictionary.location_table[number]
        if location.mapping_index:
            mapping = self.dictionary.mapping_table[location.mapping_index]
            return (self.strings[mapping.filename_strindex],
                    self.attributes(mapping.attribute_indices).get(
                        'process.executable.build_id.gnu', ''),
                    location.address)
        line, = location.lines
        function = self.dictionary.function_table[line.function_index]
        return (self.strings[function.name_strindex],
                self.strings[function.filename_strindex],
                function.start_line, line.line)

    def samples(self, name):
        """The samples of the profile with these values."""
        profile = self.profiles[self.names.index(name)]
        return [Sample([self.frame(number) for number in
                        self.dictionary.stack_table[
                            sample.stack_index].location_indices],
                       *sample.values,
                       self.attributes(sample.attribute_indices))
                for sample in profile.samples]

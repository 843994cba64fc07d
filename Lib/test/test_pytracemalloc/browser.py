"""A headless Chromium, spoken to in its DevTools protocol over two pipes."""

import json
import os
import shutil
import subprocess
import tempfile
import urllib.parse

EXECUTABLE = shutil.which('chromium') or shutil.which('google-chrome')
_FLAGS = ('--headless', '--no-sandbox', '--disable-gpu', '--no-first-run',
          '--disable-background-networking', '--disable-component-update',
          '--disable-sync', '--hide-scrollbars', '--remote-debugging-pipe')
_CODES = {'Tab': 9, 'Enter': 13, 'Escape': 27, 'Space': 32, 'ArrowLeft': 37,
          'ArrowUp': 38, 'ArrowRight': 39, 'ArrowDown': 40}


class Browser:
    """One tab; a context manager."""

    def __init__(self, width=1280, height=900, dark=False):
        self.profile = tempfile.mkdtemp()
        read_end, self._to = os.pipe()
        self._from, write_end = os.pipe()
        # The browser reads commands from descriptor 3 and answers on 4.
        self._process = subprocess.Popen(
            ['sh', '-c', f'exec "$@" 3<&{read_end} 4>&{write_end}', 'sh',
             EXECUTABLE, *_FLAGS, f'--user-data-dir={self.profile}',
             f'--window-size={width},{height}', 'about:blank'],
            pass_fds=(read_end, write_end), stderr=subprocess.DEVNULL)
        os.close(read_end)
        os.close(write_end)
        self._buffer = b''
        self._number = 0
        self._session = None
        self.events = []
        target = next(target for target
                      in self.send('Target.getTargets')['targetInfos']
                      if target['type'] == 'page')
        self._session = self.send('Target.attachToTarget', flatten=True,
                                  targetId=target['targetId'])['sessionId']
        self.send('Page.enable')
        self.send('Runtime.enable')
        self.send('Log.enable')
        self.send('Network.enable')
        self.send('Performance.enable', timeDomain='threadTicks')
        self.media(prefers_color_scheme='dark' if dark else 'light')

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        os.close(self._to)
        os.close(self._from)
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)

    def send(self, method, **params):
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': params}
        if self._session:
            message['sessionId'] = self._session
        data = json.dumps(message).encode() + b'\0'
        while data:
            data = data[os.write(self._to, data):]
        while True:
            answer = self._receive()
            if answer.get('id') == self._number:
                if 'error' in answer:
                    raise RuntimeError(f'{method}: {answer["error"]}')
                return answer['result']
            self.events.append(answer)

    def _receive(self):
        while b'\0' not in self._buffer:
            data = os.read(self._from, 1 << 20)
            if not data:
                raise RuntimeError('the browser has gone')
            self._buffer += data
        message, self._buffer = self._buffer.split(b'\0', 1)
        return json.loads(message)

    def wait_for(self, event):
        while not any(seen.get('method') == event for seen in self.events):
            self.events.append(self._receive())

    def open(self, path, fragment=''):
        # Another fragment alone would not load the page again.
        for url in ('about:blank',
                    f'file://{urllib.parse.quote(os.path.abspath(path))}'
                    f'{fragment}'):
            self.events.clear()
            self.send('Page.navigate', url=url)
            self.wait_for('Page.loadEventFired')

    def run(self, expression):
        """Return the value of a JavaScript expression; awaits promises."""
        answer = self.send('Runtime.evaluate', expression=expression,
                           returnByValue=True, awaitPromise=True)
        if 'exceptionDetails' in answer:
            raise RuntimeError(answer['exceptionDetails']['exception']
                               .get('description'))
        return answer['result'].get('value')

    def settle(self):
        """Let two frames pass, so that what was asked for is drawn."""
        self.run('new Promise(done => requestAnimationFrame('
                 '() => requestAnimationFrame(done)))')

    def click(self, x, y):
        for kind in ('mouseMoved', 'mousePressed', 'mouseReleased'):
            self.send('Input.dispatchMouseEvent', type=kind, x=x, y=y,
                      button='none' if kind == 'mouseMoved' else 'left',
                      clickCount=0 if kind == 'mouseMoved' else 1)
        self.settle()

    def move(self, x, y):
        self.send('Input.dispatchMouseEvent', type='mouseMoved', x=x, y=y)
        self.settle()

    def press(self, key, shift=False):
        options = {'key': ' ' if key == 'Space' else key,
                   'modifiers': 8 * shift,
                   'windowsVirtualKeyCode': _CODES.get(key, 0)}
        text = {'Enter': '\r', 'Space': ' '}.get(key, key)
        if len(text) == 1:
            options['text'] = text
        self.send('Input.dispatchKeyEvent', type='keyDown', **options)
        self.send('Input.dispatchKeyEvent', type='keyUp', **options)
        self.settle()

    def type(self, text):
        self.send('Input.insertText', text=text)
        self.settle()

    def media(self, **features):
        """Set what media queries find; prefers_x for prefers-x."""
        self.send('Emulation.setEmulatedMedia', features=[
            {'name': name.replace('_', '-'), 'value': value}
            for name, value in features.items()])
        self.settle()

    def worked(self):
        """Return the milliseconds of processor time that the page's thread
        has worked since it was opened: the clock of a machine that is busy
        says nothing."""
        metrics = self.send('Performance.getMetrics')['metrics']
        return 1000 * next(metric['value'] for metric in metrics
                           if metric['name'] == 'TaskDuration')

    def requests(self):
        """Return the URLs that the page has asked for."""
        return [event['params']['request']['url'] for event in self.events
                if event.get('method') == 'Network.requestWillBeSent']

    def problems(self):
        """Return what went wrong on the page: exceptions, refused scripts."""
        return [event['params'] for event in self.events
                if event.get('method') in ('Runtime.exceptionThrown',
                                           'Log.entryAdded')]

    def screenshot(self, path):
        import base64
        data = self.send('Page.captureScreenshot')['data']
        with open(path, 'wb') as file:
            file.write(base64.b64decode(data))

"""The shop as a Flask application under waitress: eight threads.

    python wsgi_service.py DATABASE [SAMPLES KIND]

The first line of output is the port on 127.0.0.1. With SAMPLES, a file, a
snapshot of that kind is taken each second (watch.py). The service ends when
its standard input does.
"""

import sys

import flask
import waitress

import lifeline
import shop

THREADS = 8


def make_app(database):
    goods = shop.Shop(database)
    app = flask.Flask(__name__)

    @app.route('/<path:path>', methods=['GET', 'POST'])
    def answer(path):
        kind, data = goods.handle(flask.request.method, path,
                                  flask.request.get_data())
        return flask.Response(data, content_type=kind)

    return app


if __name__ == '__main__':
    lifeline.hold()
    if len(sys.argv) > 2:
        import watch
        watch.start(*sys.argv[2:])
    server = waitress.create_server(make_app(sys.argv[1]), host='127.0.0.1',
                                    port=0, threads=THREADS)
    print(server.effective_port, flush=True)
    server.run()

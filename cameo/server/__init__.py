"""`cameo serve`: photo in, photo out over HTTP.

    POST /run       the body is a photo's file, or a form with one; the answer is the result: PNG, or what Accept asks
                    for first
    GET  /health    the model, its engines and how many photos are inside; 503 while the engine answers no more
    GET  /          a page to try it with

It is Starlette without FastAPI (docs/decisions/007). Whatever comes, the server stays up, answers others and keeps its
memory (docs/decisions/121):

    connections.py   heads that do not end and answers that nobody reads are closed; connections are counted
    door.py          who may ask: the Host that it is bound to, the Origin that it served; every error is JSON
    uploads.py       the bytes of photos on their way in, bounded together; who stalls makes room
    line.py          one photo at a time; places are for photos that are there, and by the wait to expect
    app.py           the three endpoints
"""

from cameo.server.app import PhotoServer, serve
from cameo.server.options import ServeOptions

__all__ = ["PhotoServer", "ServeOptions", "serve"]

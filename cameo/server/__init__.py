"""`cameo serve`: photos in, pictures out over HTTP.

    POST /v1/models/{model}    the body is a photo's file, or a form with files and options; the answer is the result
    GET  /v1/models            the models: what they take, their options, engines and memory
    POST /v1/jobs              many photos at once, where jobs are kept; GET tells how far they are
    GET  /live, /ready         whether the process answers, and whether it would take a photo
    GET  /metrics              for Prometheus
    GET  /openapi.json         all of it, described
    GET  /                     a page to try it with
    POST /run, GET /health     of the first model, as they were before there were several

It is Starlette without FastAPI (docs/decisions/007). This process opens no engine and decodes no photo: a crew's
workers do (`cameo.workers`). Whatever comes, the server stays up, answers others and keeps its memory
(docs/decisions/121):

    listening.py     the socket, and the end
    connections.py   heads that do not end and answers that nobody reads are closed; connections are counted
    exchange.py      each request has an id, and is told to metrics.py and logs.py when it is over
    refusals.py      who may ask: the Host that it is bound to, the Origin that it served, the API keys of keys.py;
                     every error is JSON
    uploads.py       the bytes of photos on their way in, bounded together; who stalls makes room
    offers.py        what models take, from bundle.json and the flow: a form becomes a call
    app.py           the routes, on what front.py has: running.py runs photos, telling.py tells (openapi.py, page.py)
    jobs.py          many photos (`cameo.jobs`): job_uploads.py takes forms to the disk, job_forms.py makes them jobs,
                     job_openapi.py describes them; what becomes of them is told to metrics.py and logs.py, too
"""

from cameo.server.app import PhotoServer
from cameo.server.limits import ServeOptions
from cameo.server.listening import child_crew, serve

__all__ = ["PhotoServer", "ServeOptions", "child_crew", "serve"]

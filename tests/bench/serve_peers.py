"""The peers of the endpoint: what anyone would write first, and nginx with the answers made.

``python -m tests.bench.serve_peers FOLDER PORT`` serves with Starlette; Flask runs
under gunicorn. Both look a file up by its id, read it, encode it and dump the JSON: no token, no
checkpoint, no rules. FOLDER holds the files, named by id, and ``names.json``, id to file name.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
from pathlib import Path

NGINX = """
worker_processes 1;
daemon off;
master_process off;
error_log stderr crit;
pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    default_type application/json;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {answers}; }}
}}
"""


def answer(folder: Path, names: dict[str, str], attachment_id: str) -> dict[str, object]:
    """Read a file and make the document that tells it."""
    data = (folder / attachment_id).read_bytes()
    content = base64.b64encode(data).decode("ascii")
    name = names[attachment_id]
    told = {"id": attachment_id, "name": name, "file_size": len(data), "content_base64": content}
    return {"ok": True, "data": told}


def starlette_app(folder: Path) -> object:
    """Make the application with Starlette."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    names = json.loads((folder / "names.json").read_text())

    async def attachment(request: Request) -> JSONResponse:
        asked = await request.json()
        return JSONResponse(answer(folder, names, asked["response_attachment_id"]))

    return Starlette(routes=[Route("/{path:path}", attachment, methods=["POST"])])


def flask_app() -> object:
    """Make the application with Flask, for gunicorn."""
    from flask import Flask, Response, request

    folder = Path(os.environ["BENCH_FOLDER"])
    names = json.loads((folder / "names.json").read_text())
    app = Flask(__name__)

    def attachment(path: str) -> Response:
        asked = request.get_json()
        document = answer(folder, names, asked["response_attachment_id"])
        return Response(json.dumps(document), mimetype="application/json")

    # Not the decorator: without Flask's types, mypy would find it untyped.
    app.add_url_rule("/<path:path>", view_func=attachment, methods=["POST"])
    return app


def nginx_command(folder: Path, answers: Path, port: int) -> list[str]:
    """Write a configuration and return the command that serves ``answers`` with it."""
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, answers=answers, port=port))
    return [shutil.which("nginx") or "/usr/sbin/nginx", "-p", str(folder), "-c", str(config)]


def gunicorn_command(port: int) -> list[str]:
    """Return the command that serves the Flask application with two processes."""
    gunicorn = [sys.executable, "-m", "gunicorn", "--workers", "2", "--log-level", "critical"]
    return [*gunicorn, "--bind", f"127.0.0.1:{port}", "tests.bench.serve_peers:flask_app()"]


def starlette_command(folder: Path, port: int) -> list[str]:
    """Return the command that serves the Starlette application."""
    return [sys.executable, "-m", "tests.bench.serve_peers", str(folder), str(port)]


if __name__ == "__main__":
    import uvicorn

    made = starlette_app(Path(sys.argv[1]))
    uvicorn.run(made, port=int(sys.argv[2]), log_level="critical", access_log=False)  # type: ignore[arg-type]

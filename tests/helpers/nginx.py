"""What every configuration of nginx needs that a test runs it with."""

from __future__ import annotations

from pathlib import Path

__all__ = ["nginx_configuration"]

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
}}
"""


def nginx_configuration(folder: Path, http: str) -> str:
    """The whole of it; folder: for its files; http: what is to stand in `http`."""
    return CONFIGURATION.format(folder=folder, http=http)

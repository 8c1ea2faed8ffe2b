"""A chat server: rooms, a token for each user, and a health check on the same port.

CHAT_TOKENS="s3cret=ann other=bob" PORT=8000 python examples/chat.py
coro-websocket connect "ws://127.0.0.1:8000/chat/lobby?token=s3cret"
"""

import asyncio
import json
import logging
import os

from coro_websocket import HTTPResponse, bearer_auth, serve
from coro_websocket.router import Router

TOKENS = dict(pair.split("=", 1) for pair in os.environ["CHAT_TOKENS"].split())
router = Router()


@router.route("/chat/{room}", process_request=bearer_auth(TOKENS, query="token"))
async def chat(req, read, write, room):
    user = req.state.token_claims
    group = req.server.group(room)

    def tell(**what):
        group.broadcast(json.dumps({"user": user, **what}))

    try:
        with group.member(write):
            tell(event="joined", members=len(group))
            async for msg in read:
                if isinstance(msg.payload, str):
                    tell(text=msg.payload)
    finally:
        tell(event="left", members=len(group))


@router.get("/healthz")
def healthz(req):
    return HTTPResponse(200, body="OK\n")


async def main():
    port = int(os.environ.get("PORT", "8000"))
    async with serve(router, "127.0.0.1", port, max_message_size=16_384) as server:
        await server.serve_forever(signals=True, drain_timeout=0)


logging.basicConfig(level=logging.INFO)
asyncio.run(main())

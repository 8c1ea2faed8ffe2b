"""The Django Channels application that the tests talk to: an asynchronous consumer and a plain one."""

from __future__ import annotations

import queue
from typing import Any

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    INSTALLED_APPS=["channels"],
    LOGGING_CONFIG=None,
    SECRET_KEY="only for tests",
    USE_TZ=True,
)
django.setup()

# These read the settings.
from channels.generic.websocket import (  # noqa: E402
    AsyncJsonWebsocketConsumer,
    WebsocketConsumer,
)
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import path  # noqa: E402

ENDED: queue.Queue[tuple[str, int]] = queue.Queue()  # the room, and the code


class Chat(AsyncJsonWebsocketConsumer):
    """Everybody in a room hears what one says, by Channels' layer."""

    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        if self.room == "closed":
            await self.close()
            return
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept("v1" if "v1" in self.scope["subprotocols"] else None)

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)
        ENDED.put((self.room, code))

    async def receive_json(self, content: Any, **_: object) -> None:
        if content == "leave":
            await self.close(4001, "as you wish")
        else:
            event = {"type": "chat.said", "said": content}
            await self.channel_layer.group_send(self.room, event)

    async def chat_said(self, event: dict[str, Any]) -> None:
        await self.send_json({"room": self.room, "said": event["said"]})


class Echo(WebsocketConsumer):
    """Of functions that are no coroutines, which Channels runs in threads."""

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data, bytes_data)


application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(
            URLRouter(
                [
                    path("rooms/<slug:room>", Chat.as_asgi()),
                    path("echo", Echo.as_asgi()),
                ]
            )
        ),
    }
)

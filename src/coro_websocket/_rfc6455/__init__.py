"""RFC 6455's state machine, without I/O or a clock: bytes in, messages out, and back.

The rule: nothing here knows a stream, a loop or the time.

THEORY OF OPERATION

The rooms, each on top of the one before, each with the state that it owns:

    sending          messages to bytes; the closing handshake, which both halves take part in
    incoming         where received bytes are put; the frame and the message that have begun
    frame_rules      what the peer may send; acting on control frames; failing the connection
    looking_ahead    control frames that wait behind messages which nobody has asked for
    assembling       data frames to messages, fragments or pieces
    receiving        `next`: one message, when it is asked for
    engine           the role, the limits, how it ended

Messages are parsed when they are asked for. What the stream has received stays in the
inbox, as bytes, and `next` parses as far as the end of one message. So a slow reader holds bytes,
not objects; `held` says how many, and the connection pauses the stream at its high-water mark.
And what came before a violation is delivered, and can be answered, before `next` comes to the
violation and fails the connection: a Close frame is queued and ProtocolError raised.

     delivered | rest of the frame that is being read | looked at | not looked at yet |
               cur                        cur + frame_left       ahead               end

Control frames are looked ahead for. While a task waits in a read, `next` acts on those that
it passes. While none does, a Ping or a Close would wait behind messages for as long as nobody
reads. So whoever receives bytes for nobody calls `look_ahead`, which acts on each control frame
that is here whole and changes nothing else but `ahead`. The frames stay: `next` comes to
them later, and acts only on those at or behind `ahead`. What `next` is to report, a violation or a
frame that is not all here, ends the look.

A Close is the exception. Once it is answered nothing more can be sent (section 5.5.1), and the
messages before it may yet be answered. So `look_ahead` answers it only if nothing but control
frames waits before it, or if it is told to: because we have sent our Close, the stream has
ended, or the close timeout has passed. If it leaves the Close, `close_ahead` says so. What has come
behind a Close that was answered is dropped; what came before it can still be read. Delivery ends
when `next` comes to the Close itself: then `over` is set, as it is by a failure.

What is delivered depends on who asks: a whole message (MESSAGE), a frame of it (FRAME), or what is
here of a frame (PIECE), which alone may belong to a message larger than max_message_size. A
message whose one frame is all here is copied once, from the inbox. Any other is gathered in a
body: `in_frame` says that a frame has begun, `message_opcode` that a message has, and
`message_begun` that a part of it was delivered. `cur` is then behind the frame's header and what
was taken of its payload; `frame_left` bytes of that are still to be taken.

The engine forgets what it has delivered. The connection may keep one message more, in `ready`: one
that was parsed for a reader which has not been resumed yet or has given up since, or the last
that was parsed to make room (the option `overflow`). It comes before all that the engine has. It
is whatever was asked for then: a message, a part of one, or a control frame.

Who owns the bytes. `receive_into` says where the stream is to put what it receives:

    the stream's buffer   shared by all connections of a loop. The inbox borrows it from
                          `received` to `release`, which copies what is unread to memory of its own
    the inbox's memory    if more is unread than fits before the stream's bytes, or the stream
                          has no buffer; given back when all is read
    the message's body    payload of a large frame that has begun; it becomes the message's bytes

Memory follows the bytes that are here, never the length that a header announces (`buffers`).

Python code can run within `next` and `look_ahead`: an extension, a log, a finalizer. It may call
the connection again. `parsing` is set meanwhile: a second `next` gives None, a second
`look_ahead` does nothing, and nothing that is unread is dropped. Bytes may still be received, and
those that are here moved for that: after such a call, places are taken from `cur` anew. `lend`
does the same for a stream that runs Python to receive (TLS), and keeps its target where it is.
"""

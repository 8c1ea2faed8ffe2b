"""Whose turn it is to send a message, and who waits for theirs.

The frames of a fragmented message may have no other message between them (RFC 6455 section
5.4), nor may a message overtake one that a thread transforms. So a message that is not sent
at once takes the turn, and keeps it until its last frame. It belongs to the task that has begun
it; the others wait. So do messages that no task waits for, the background's, in the same queue:
they are sent when their turn comes, without a task.

The rules: turns are given in the order of asking; a message that its task leaves behind
unfinished is broken off; whoever waits gets the turn or learns of the end.

Nothing here knows a loop, a network or an engine: who runs, and how one waits and sends, is
for a subclass to say.
"""

from .._runtimes.waiter cimport WAITING, Waiter, wake_all

from .._errors import ConcurrencyError


cdef class Turns:
    """The turns of the messages that one connection sends."""

    # What the connection provides

    cpdef object current_task(self):
        """The task that runs now, or None."""
        raise NotImplementedError

    cpdef int watch(self, task) except -1:
        """Have `owner_ended` called once the task is done, however it ends."""
        raise NotImplementedError

    cpdef int unwatch(self, task) except -1:
        raise NotImplementedError

    cpdef Waiter new_waiter(self):
        """For the end of another task's message."""
        raise NotImplementedError

    cpdef int send(self, message) except -1:
        """Send a message of the background."""
        raise NotImplementedError

    cpdef int break_off(self) except -1:
        """Close the connection: a part of a message has been sent, and cannot be taken back."""
        raise NotImplementedError

    cpdef int fail_memory(self) except -1:
        """There was no memory to go on: the connection is lost."""
        raise NotImplementedError

    # Whose turn it is

    cpdef bint is_mine(self) except -1:
        """Whether the task that runs may send the next frame now."""
        return self.taken and self.transforming is None and self.owner is self.current_task()

    cpdef bint is_mine_next(self) except -1:
        """Whether it may once the fragment that a thread transforms has been sent."""
        return self.taken and self.transforming is not None and self.goes_on(self.current_task())

    cdef bint goes_on(self, task) noexcept:
        """Whether the message that has its turn is this task's, and has more frames to come."""
        return self.taken and self.owner is task and (self.transforming is None or self.more)

    # What becomes of a message

    cpdef int begin(self) except -1:
        """The task that runs has sent the first frame of a message, or has it transformed."""
        if self.ended:
            return 0
        self.taken = True
        self.owner = self.current_task()
        if self.owner is not None and not self.watched:
            try:
                self.watch(self.owner)
                self.watched = True
            except MemoryError:  # nobody would learn that it has ended
                self.fail_memory()
        return 0

    cpdef int pass_on(self) except -1:
        """The message has ended: whoever has waited longest comes next."""
        if self.ended:
            return 0
        try:
            self.release()
            while self.waiting and not self.taken and not self.ended:
                self.give_to_first()
        except MemoryError:  # nobody else would ever wake them
            self.fail_memory()
        return 0

    cpdef int give_up(self) except -1:
        """The message was begun and will not be ended."""
        if self.ended:
            return 0
        try:
            self.break_off()
        except MemoryError:
            self.fail_memory()
        return self.pass_on()

    cpdef int transform(self, frame, bint begins, bint ends) except -1:
        """A thread transforms a frame: until `transformed`, nobody else sends one.

        begins, ends: whether it is the first frame of its message, the last one.
        """
        if self.ended:
            return 0
        if begins and not ends:
            self.begin()
        self.taken = True
        self.transforming = frame
        self.more = not ends
        return 0

    cpdef int transformed(self, frame, bint ended) except -1:
        """The frame was sent, or could not be. ended: no message is being sent any more."""
        if self.transforming is not frame:  # its message was given up meanwhile
            return 0
        self.transforming = None
        if ended:
            return self.pass_on()
        if self.owner_gone or not self.more:  # who should go on, or its last frame
            return self.give_up()
        return 0

    def owner_ended(self, task):
        """A task that was watched is done."""
        if not self.taken or self.owner is not task:
            return
        self.watched = False
        if self.transforming is not None:
            self.owner_gone = True
        else:
            self.give_up()

    cpdef int end(self, bint now=False) except -1:
        """No more messages are sent: wake all who wait, and drop the background.

        now: resume them here and now, as no task is running. If some cannot be woken, that is
        raised, and calling it again tries again.
        """
        cdef Py_ssize_t i
        self.ended = True
        self.background_size = 0
        try:
            self.release()
        finally:
            if self.waiting:
                for i in range(len(self.waiting) - 1, -1, -1):
                    if not isinstance(self.waiting[i][0], Waiter):
                        del self.waiting[i]
                wake_all(self.waiting, now)
        return 0

    cdef int release(self) except -1:
        owner, self.owner = self.owner, None
        self.taken = False
        self.owner_gone = False
        self.transforming = None
        if self.watched:
            self.watched = False
            self.unwatch(owner)
        return 0

    # Waiting

    cpdef int add_background(self, message, size_t size) except -1:
        """Send what no task waits for when its turn comes; it counts for `size` bytes.

        message: whatever `send` takes, but no Waiter.
        """
        if self.waiting is None:
            self.waiting = []
        self.waiting.append((message, size))
        self.background_size += size
        return 0

    async def take(self):
        """Wait for the turn of the task that runs; False if the end came first."""
        if self.ended:  # there is nothing to wait for: what is sent now is refused
            return True
        task = self.current_task()
        if not self.taken:
            self.taken = True
            self.owner = task
            return True
        if self.goes_on(task):
            raise ConcurrencyError(
                "this task is sending a fragmented message: its last fragment (fin=True) must "
                "come before a new message (RFC 6455 section 5.4)"
            )
        await self.wait(task)
        return not self.ended

    async def wait(self, task):
        cdef Waiter waiter = self.new_waiter()
        waiter.arm()
        entry = (waiter, task)
        if self.waiting is None:
            self.waiting = []
        self.waiting.append(entry)
        try:
            await waiter
        except BaseException:
            # The turn may have been given to us in the same moment.
            if self.is_mine():
                self.pass_on()
            raise
        finally:
            waiter.gone_on()
            if entry in self.waiting:
                self.waiting.remove(entry)

    cdef int give_to_first(self) except -1:
        """Give the turn to the first who waits, unless its task was cancelled."""
        first, rest = self.waiting[0]
        if isinstance(first, Waiter):
            if (<Waiter>first).state == WAITING:
                (<Waiter>first).wake_soon()
                self.taken = True
                self.owner = rest
            del self.waiting[0]
            return 0
        del self.waiting[0]
        self.background_size -= rest
        self.taken = True  # what is written meanwhile waits
        self.owner = first
        try:
            self.send(first)
        except MemoryError:
            raise
        except Exception:  # nobody waits for it, and the others go on
            pass
        finally:
            if self.owner is first:
                self.release()
        return 0

"""The errors that tests meet."""

from __future__ import annotations

from hatchway.errors import HatchwayError


class ClusterError(HatchwayError):
    """A call failed because of the cluster, the machine or the test's own input.

    message: what happened, in one line. hint: what to do next; "" for nothing.
    """

    def __str__(self) -> str:
        """Return the message, and the hint in a line of its own."""
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class CommandFailed(ClusterError):
    """A command ended with an exit code other than 0.

    returncode: the exit code. stdout, stderr: the command's output.
    """

    def __init__(self, what: str, returncode: int, stdout: str, stderr: str) -> None:
        printed = "\n  ".join((stdout + stderr).strip().splitlines()[-50:])
        super().__init__(f"{what}: exit code {returncode}", printed)
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr


class WaitTimeout(TimeoutError):
    """A condition was not met in time. The text shows the object's conditions, its Events and its pods' logs."""

"""Errors as Hadoop's clients know them: a Java class, a status, and a message in the words that they look for.

Separate because it is a table: from our errors, each of which means one thing, to the classes that a Hadoop client
would have got from HDFS in the same situation. `RemoteException` is also raised directly where only this door has a
reason to refuse.
"""

from dfs.protocol import errors as e
from dfs.protocol.server import Receive, Send
from dfs.protocol.webhdfs import send_json

FILE_NOT_FOUND = "java.io.FileNotFoundException"
FILE_EXISTS = "org.apache.hadoop.fs.FileAlreadyExistsException"
PARENT_NOT_DIRECTORY = "org.apache.hadoop.fs.ParentNotDirectoryException"
NOT_EMPTY = "org.apache.hadoop.fs.PathIsNotEmptyDirectoryException"
ACCESS_CONTROL = "org.apache.hadoop.security.AccessControlException"
IO = "java.io.IOException"
ACL = "org.apache.hadoop.hdfs.protocol.AclException"
BLOCK_MISSING = "org.apache.hadoop.hdfs.BlockMissingException"
RETRIABLE = "org.apache.hadoop.ipc.RetriableException"
ILLEGAL_ARGUMENT = "java.lang.IllegalArgumentException"
INVALID_PATH = "org.apache.hadoop.fs.InvalidPathException"
UNSUPPORTED = "java.lang.UnsupportedOperationException"
RUNTIME = "java.lang.RuntimeException"

_STATUS = {FILE_NOT_FOUND: 404, ILLEGAL_ARGUMENT: 400, INVALID_PATH: 400, UNSUPPORTED: 400, RUNTIME: 500}
"""Everything else is 403."""


class RemoteException(Exception):
    """An answer that is an error in Hadoop's terms."""

    def __init__(self, java_class: str, message: str) -> None:
        super().__init__(message)
        self.java_class = java_class
        self.message = message

    @property
    def status(self) -> int:
        return _STATUS.get(self.java_class, 403)

    @property
    def name(self) -> str:
        """The class without its package, by which clients tell errors apart."""
        return self.java_class.rpartition(".")[2]


def remote_exception(error: e.DfsError, path: str) -> RemoteException:
    """What a Hadoop client should hear. `path`: of the request, where the error names none."""
    place = error.detail.get("path") or path
    match error:
        case e.FileNotFound():
            return RemoteException(FILE_NOT_FOUND, f"File does not exist: {place}")
        case e.IsADirectory():
            return RemoteException(FILE_NOT_FOUND, f"Path is not a file: {place}")
        case e.FileExists():
            return RemoteException(FILE_EXISTS, f"{place} already exists")
        case e.NotADirectory():
            obstacle = error.message.removesuffix(": not a directory")
            return RemoteException(PARENT_NOT_DIRECTORY, f"{obstacle} (is not a directory)")
        case e.DirectoryNotEmpty():
            return RemoteException(NOT_EMPTY, f"`{place} is non empty': Directory is not empty")
        case e.NotPermitted():
            return RemoteException(ACCESS_CONTROL, f"Permission denied: {error.message}")
        case e.InvalidName():
            return RemoteException(INVALID_PATH, f"Invalid path: {error.message}")
        case e.InvalidRequest() | e.TooLarge():
            return RemoteException(ILLEGAL_ARGUMENT, error.message)
        case e.DataLost():
            return RemoteException(BLOCK_MISSING, error.message)
        case e.NoSpace() | e.RequestError() | e.DataError():
            return RemoteException(IO, error.message)
        case e.StateError() | e.PeerError():
            return RemoteException(RETRIABLE, error.message)
        case _:
            return RemoteException(RUNTIME, error.message)


def unknown_operation(method: str, op: str) -> RemoteException:
    """What Hadoop answers to an operation that it does not know, or not with this method."""
    kind = f"org.apache.hadoop.hdfs.web.resources.{method.capitalize()}OpParam.Op"
    return RemoteException(
        ILLEGAL_ARGUMENT, f'Invalid value for webhdfs parameter "op": No enum constant {kind}.{op or "NULL"}'
    )


async def send_exception(send: Send, error: RemoteException, *, unread: Receive | None = None) -> None:
    """Send it. `unread` as in `send_text`."""
    described = {"exception": error.name, "javaClassName": error.java_class, "message": error.message}
    await send_json(send, error.status, {"RemoteException": described}, unread=unread)

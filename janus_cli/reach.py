"""Whether a Ray cluster listens at an address. Without Ray, which itself would try for minutes."""

from __future__ import annotations

import socket

from .errors import ModelError

PATIENCE = 10  # seconds
FRAME = b"\0\0\0\4"  # how both sides of HTTP/2 begin, which Ray speaks: settings, of no length
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + FRAME + bytes(5)


def require_cluster(address: str) -> None:
    """Raise a ModelError where an address names a host and a port, and no cluster listens there."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    place = (host.rpartition("/")[2].strip("[]"), int(port))
    try:
        with socket.create_connection(place, PATIENCE) as connection:
            connection.sendall(GREETING)
            reply = connection.makefile("rb").read(len(FRAME))
    except (OSError, OverflowError) as error:
        raise ModelError(
            f"--ray: RAY_ADDRESS {address} cannot be reached ({error}); start the cluster with "
            "ray start --head, or unset it to use this machine alone"
        ) from error
    if reply[-1:] != FRAME[-1:]:
        raise ModelError(
            f"--ray: RAY_ADDRESS {address} is no Ray cluster; take the address that ray start shows"
        )

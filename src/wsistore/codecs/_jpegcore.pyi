from typing_extensions import Buffer

VECTORIZED: int

def prepare(stream_header: bytes, /) -> object | None: ...
def decode(
    header: object,
    block: Buffer,
    data_at: int,
    x: int,
    y: int,
    out: Buffer,
    scale: int,
    strict: bool,
    /,
) -> bool: ...
def decode_many(
    jobs: list[tuple[object, Buffer, int, int, int, int, int, int]],
    out: Buffer,
    row_bytes: int,
    scale: int,
    strict: bool,
    /,
) -> bytes: ...

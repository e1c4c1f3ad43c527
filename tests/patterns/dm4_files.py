"""A file of Digital Micrograph 4, as little of it as a reader needs: nobody else writes them."""

import struct

import numpy as np

_CODES = {"u1": 10, "u2": 4, "f4": 6}  # of an array's elements
_KINDS = {"u1": 6, "u2": 10, "f4": 2}  # of an image's pixels


def write_dm4(path, data, units, scales):
    """Write an image of any number of axes, each with a unit and a step."""
    axes = [
        ("", [("Origin", 0.0), ("Scale", float(scale)), ("Units", unit)])
        for scale, unit in zip(scales[::-1], units[::-1], strict=True)
    ]
    brightness = [("Origin", 0.0), ("Scale", 1.0), ("Units", "")]
    image = [
        ("Calibrations", [("Brightness", brightness), ("Dimension", axes)]),
        ("Data", data.ravel()),
        ("DataType", _KINDS[data.dtype.str[1:]]),
        ("Dimensions", [("", n) for n in data.shape[::-1]]),
    ]
    tags = [("Microscope Info", [("Voltage", 200_000.0)])]
    root = [("ImageList", [("", [("ImageData", image), ("ImageTags", tags), ("Name", "scan")])])]
    content = b"\1\0" + _list(root)
    path.write_bytes(struct.pack(">IQI", 4, len(content), 1) + content + _long(0))


def _long(*values):
    return struct.pack(f">{len(values)}Q", *values)


def _list(tags):
    return _long(len(tags)) + b"".join(_tag(name, value) for name, value in tags)


def _tag(name, value):
    """Return a group of tags, or a tag with its number, text or array."""
    head = struct.pack(">H", len(name)) + name.encode()
    if isinstance(value, list):
        inside = _list(value)
        return b"\x14" + head + b"\1\0" + _long(len(inside)) + inside
    if isinstance(value, str):
        value = np.frombuffer(value.encode("utf-16-le"), "<u2")
    if isinstance(value, np.ndarray):
        about, raw = (20, _CODES[value.dtype.str[1:]], value.size), value.tobytes()
    elif isinstance(value, float):
        about, raw = (6,), struct.pack("<f", value)
    else:
        about, raw = (5,), struct.pack("<I", value)
    body = b"%%%%" + _long(len(about), *about) + raw
    return b"\x15" + head + _long(len(body)) + body

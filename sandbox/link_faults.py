"""The values of the fault `image`: how an image link can fail."""

from .choices import Choice, choices

#: Every kind by its name.
LINK_KINDS = choices(
    Choice("404", "404 with XML in the form of S3: NoSuchKey"),
    Choice("403", "403 with XML in the form of S3: AccessDenied, the request has expired"),
    Choice("410", "410 with an empty body"),
    Choice(
        "503",
        "503 with XML in the form of S3: SlowDown; Retry-After if seconds are given",
        takes_seconds=True,
    ),
    Choice("json", "200 with an error as JSON"),
    Choice("html", "200 with an HTML page"),
    Choice("xml", "200 with XML in the form of S3: NoSuchKey"),
    Choice("nothing", "200 with an empty body"),
    Choice("pixel", "200 with a PNG of one pixel"),
    Choice("cut", "half of the image with the Content-Length of all; the connection closes"),
    Choice("short", "half of the image with the Content-Length of the half"),
    Choice("small_length", "the whole image with the Content-Length of the half"),
    Choice("slow", "the image, slowly, in this time (60 seconds by default)", takes_seconds=True),
    Choice("endless", "the image and then zeros without an end (at most 1 GiB)"),
    Choice("gzip_bomb", "1 MB that becomes 1 GiB when Content-Encoding: gzip is decoded"),
    Choice("pixel_bomb", "a PNG of a few kB that claims 50000 x 50000 pixels"),
    Choice("redirect", "302 to a link that works"),
    Choice("redirect_odd", "302 to a link that works, with a raw blank and a letter ü in its path"),
    Choice("redirect_loop", "302 to itself"),
    Choice("redirect_private", "302 to http://169.254.169.254/latest/meta-data/"),
)

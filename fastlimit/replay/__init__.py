"""Replaying a log of requests through limits, with the log's own clock.

    times     a log's way to write an instant, as nanoseconds since 1970
    trace     the requests of a log in memory, in order of time
    readers   a line of an access log or a CSV file, as time, key and cost
    log       a file or standard input, read whole: its trace, and what could not be read
    drive     a trace through one limiter at full speed
    figures   what came of it: totals, offenders, a histogram
    screen    the figures for people (needs rich)
    report    the figures for programs (JSON)
    demo      one rate under every algorithm, side by side

Each module needs only those above it.
"""

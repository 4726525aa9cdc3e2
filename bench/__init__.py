"""Measures fastlimit against floors, peers and targets: `python -m bench`, or `--quick` for a minute.

How it measures
    Every contender's statement is compiled into its own loop: no adapter stands between the loop and the
    callee. Calls are written as their users write them (`for _ in range(n): limiter.allow(key)`), so the loop
    and the method's look-up are in every figure alike; the row `empty loop` tells how much that is, and what
    a ratio would be without it can be worked out. A round visits
    every contender, in a new order each time; ratios are taken within a round and then medianed, so that a
    noisy minute hits both sides. The process is pinned to one core and the garbage collector is off while a
    loop runs. Before and after, each statement's answer is checked: a contender that should be allowed and is
    refused is an error, not a figure.

What it does not tell
    Absolute nanoseconds of this machine, in this hour: trust the ratios and the spread beside them. Peers are
    called by their fastest documented use with a cost of 1 on string keys; those that return a rich result
    (throttled-py) do more than those that return a bool, so compare them with `acquire` too. Each peer runs
    in a process of its own beside our limit of the same algorithm, because some start threads. Several
    million keys, other processes on the machine and a network are not measured here.

The peers are optional: limits, throttled-py, pyrate-limiter, token_bucket, rust-py-rate-limit, floodgate-rs.
What is not installed is listed so. The compiled floors need Cython, setuptools and a C compiler.
"""

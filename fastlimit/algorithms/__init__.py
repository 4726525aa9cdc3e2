"""The algorithms, each said three times: `.py` is what it means, `.pxd` how it runs, `.lua` how nodes agree.

Every module holds the same functions in the same order, over plain integers:

    fresh      the state of a key that was never seen
    is_fresh   whether a state cannot be told from that one any more
    step       admit `cost` units at `now`, or refuse and change nothing
    report     what a Decision says about it: remaining, and the instants from which the rest follows
    debit      charge after the fact, at most one further capacity into debt
    refund     give back, never above fresh
    convert    carry a debt from one limit to another

`now` and every instant are in the limit's own units (see `fastlimit.limits.Parameters`); a state is a tuple.
"""

"""Indicators, fed bar by bar: one definition live, on paper, offline and in backtests.

Each file ``<name>.py`` has ``state_size(lengths...)``, for Python and for kernels; ``<name>_update(state, values...,
parameters...) -> float``, the indicator after one closed bar, NaN until it is defined; and ``<name>_series(arrays...,
parameters...)``, the same update over whole arrays (float64, one length, oldest first). ``state`` is float64 of
``state_size``, zeros at the start; further results are in its named slots, and mean something once the update has
returned a number. Prices are in quote coin, volumes in base coin. A state is never shared between two instruments, and
lengths never change during its life: nothing in a kernel checks that.

A bar that cannot be (a value that is NaN or infinite, a high below its low, a volume below 0) is passed over: the
update returns NaN and the state stays as it was, as if the bar had not come.

Sums over a window do not drift, whatever has passed through it: what each addition rounds off is carried along and
added at the end (Neumaier).
"""

"""The three passes over many neurons: where the scalar functions are batched and compiled.

Every pass takes float64 columns of one length and returns columns of that length. It works in
blocks of a fixed size, the last one filled up, so that nothing is compiled twice and no value
depends on how the cells were cut.
"""

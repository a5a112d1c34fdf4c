"""Results on disk: a folder of Parquet parts with a manifest, written by one run at a time.

The disk is the source of truth: a chunk without a sound part is computed again. See
`plateaumap.storage.store` for writing and `plateaumap.storage.results` for reading.
"""

"""Results on disk: a folder of Parquet parts with a manifest, written by one run at a time.

What is on disk is true, what is missing is work. See `plateaumap.storage.store` for writing,
`plateaumap.storage.results` for reading.
"""

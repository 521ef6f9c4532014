"""OME-Zarr: slides converted to it, read from it, verified and validated.

Nothing is imported here, since zarr takes 0.4 s. By module:

- ``reader``: a store as a slide (`FORMAT`, `open_ome_zarr`), through ``groups``,
  ``multiscales``, ``arrays``, ``tile_tables`` and, for what only zarr-python reads,
  ``zarr_levels``.
- ``zarr_codecs``: the codecs that zarr-python finds by entry point.
- ``ngff``, ``layout``, ``documents``: the metadata that are written.
- ``options``, ``planning``, ``units``, ``conversion``: from slide to store.
- ``verifying``: its bytes; ``validation``: its metadata.
"""

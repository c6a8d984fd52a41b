"""Features of any number of photos, in parts that are encoded one by one, anywhere and in any order.

`source` cuts a folder, a list or tar files, which `places` opens, into units of work; `encoding` makes a part of a unit
and `files` writes it. `engine` runs the units that are missing: here, by `ray_engine`, or by `slurm_engine`. `lookup`
gives the features of single photos, `search` and `index` the nearest ones. `data.parts` reads the files.
"""

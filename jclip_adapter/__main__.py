"""`python -m jclip_adapter`: the installed command, for where its folder is not on the PATH."""

from jclip_adapter.cli.entry import main

main()

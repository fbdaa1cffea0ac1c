"""The command line: ``deli-com``, or ``python -m deli_com``.

::

    main.py       the commands by name; errors, interrupts and closed pipes to exit statuses
    command.py    what every command may use: failures, examples in its help, output and its colours
    source.py     what a command reads a schema from: module:Type, a file, a server's URL
    urls.py       how a server is reached: --header, --ca, --cert, --key, DELI_TOKEN
    NAME.py       the command NAME: ``fill(parser)`` and ``run(options)``

A command's module is imported when the command is used. Exit statuses: 0 it is so, or it was done; 1 it is
not so (a file is stale, schemas differ); 2 it cannot be done; 130 after Ctrl-C; 141 where nobody reads the
output.
"""

"""The command line: ``deli-com``, or ``python -m deli_com``.

::

    main.py       the commands by name; converts errors, interrupts and closed pipes to exit statuses
    command.py    helpers of all commands: failures, examples in help texts, output and colours
    source.py     reads a schema from module:Type, a file, or a server's URL
    urls.py       options for connecting to a server: --header, --ca, --cert, --key, DELI_TOKEN
    NAME.py       the command NAME: ``fill(parser)`` and ``run(options)``

A command's module is imported when the command is used. Exit statuses: 0 for success or "yes"; 1 for "no" (a
file is stale, schemas differ); 2 for a failure; 130 after Ctrl-C; 141 if the reader of the output has closed
the pipe.
"""

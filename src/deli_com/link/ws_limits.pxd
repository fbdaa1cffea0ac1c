# The limits of a WebSocket connection: on what it reads at once, keeps, and accepts from its peer.

cdef enum:
    NO_STATUS = 1005         # RFC 6455 section 7.1.5: CLOSE without a code
    REASON_BYTES = 123       # a control frame takes 125, the code two of them
    MAX_FRAGMENTS = 4096     # frames of one message, unless the peer sets another limit
    PONGS_A_READ = 16        # PINGs answered one by one; of more in one read only the last
    READ_BYTES = 262144      # read at once: what it holds stays in the caches until it is taken
    LONG_READ_BYTES = 1048576  # after a full read of fewer than FEW_FRAMES: 0.2 ms, and 1/4 of the turns
    FEW_FRAMES = 4
    MANY_FRAMES = 256        # after a read of more frames than that, the next comes a turn later, and is
    FRAMES_A_READ = 4096     # sized for so many like them: 0.2 ms of 64-byte messages, 1 ms of PINGs
    FULL_BYTES = 16384       # read at once into a full inbox, by each client
    LEAST_BYTES = 4096       # read at once, however little may wait in memory
    KEPT_BYTES = 262144      # of the read buffer that an idle connection keeps
    PING_BYTES = 14          # a PING of ours on the wire, mask included
    TOKEN_BYTES = 8          # of its payload

    CONTROL_BYTES = 262144   # of one control text
    PREFIX_BYTES = 7
    HELLO_BYTES = 512        # of a hello that comes as the first message

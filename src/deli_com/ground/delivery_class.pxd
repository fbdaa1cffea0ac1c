# How values of one class are delivered to a follower that is behind (docs/policies.md).

cdef enum DeliveryClass:
    DELIVER_RELIABLE   # policies "disconnect" and "wait"
    DELIVER_SKIP
    DELIVER_LATEST
    DELIVER_AGED       # reliable, but for what is older than the class's `max_age`

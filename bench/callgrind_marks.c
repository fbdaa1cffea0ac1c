/* Callgrind counts what runs between these two calls. Outside valgrind they do nothing. */
#include <valgrind/callgrind.h>

void counting_begins(void) { CALLGRIND_START_INSTRUMENTATION; }

void counting_ends(void) { CALLGRIND_STOP_INSTRUMENTATION; }

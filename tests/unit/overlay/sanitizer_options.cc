// ThreadSanitizer orders locks by instance: two directories' locks taken parent before child look inverted once a
// rename has swapped their roles, or once a node's slot (whose lock lives on) serves another node. The engine's order
// is by place in the tree, which changes only under the exclusive tree lock (overlay/locking.h). Data races are
// reported as ever.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "deadlock:vellum::overlay::Overlay\n"; }

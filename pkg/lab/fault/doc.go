// Package fault makes the lab's servers fail on request, in the ways real
// services and networks fail.
//
// A [Fault] says what goes wrong ([Kind]), for which requests (service,
// instance, method, path) and how often (Skip, Count, Probability). A [Set]
// holds the faults of a lab; it is safe for concurrent use, and with the same
// seed and the same order of requests it decides the same way again.
// [Middleware] applies the faults of a set to any http.Handler, [Listener] those
// that concern connections.
//
// # Which faults meet one request
//
// Latency adds up. Of the kinds that end a request in their own way (status,
// throttle, reset, truncate and so on) only the first that matches, in the order
// of adding, is used and counted. Flags (disk-full, key-not-propagated, listing
// faults) are handed to the service through the request's context, see [Flagged].
//
// # Corruption
//
// The kinds corrupt, lie, truncate, short and hang touch successful bodies only
// (status 200 and 206); a request that ended otherwise does not use the fault
// up. A fault without a method meets GET only for these kinds, writes only for
// lost-answer, and every method for the others.
package fault

// Package imgapid is a stand-in for a standalone IMGAPI server (upstream
// sdc-imgapi 4.13.1) that works on the real on-disk layout of a zone.
//
// It is as nasty as the real thing: manifests are read once at start and
// rewritten in place without fsync, invalid ones vanish with a log line, DESC
// listings with a limit are wrong, a missing image file is answered with the full
// length and no body, and a number of requests kill the process. A [Process] is
// one life of the server: when it dies, its listener and connections are gone
// and so is its memory; whoever supervises it starts a new one with [Start].
//
// Source of the facts: the upstream server run on loopback in modes public and
// private with local database and storage, and its source read.
//
// # What it does not do
//
// Only databaseType "local" is served; any other configuration is refused at
// start. It never fetches from other image servers: import from a source, from a
// data center and files from a URL answer 501 NotAvailable and say that this is a
// lab. With Manta storage the client's own pauses between attempts are not
// imitated, only how long they take in all. The removal of a key file in Manta
// makes upstream delete the local path of the same name as the object's; the lab
// deletes nothing. The order of equal publishing times is stable here and
// arbitrary upstream.
package imgapid

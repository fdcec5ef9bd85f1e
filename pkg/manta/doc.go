// Package manta is a client for Manta's web API: objects and directories with
// conditional writes, verified transfers and paged listings.
//
// Of triton-go it uses the authentication.Signer interface, which [Signer]
// implements, and nothing else. Its storage client drops Content-Length and
// Content-MD5 on uploads, shares headers between goroutines and calls a recursive
// delete done after one entry, so requests are made here.
//
// # What is promised
//
// A Put returns only after the service has told the MD5 of what it stored and it
// is the MD5 of what was sent; the source is read once. A reader from Get ends
// with io.EOF only if length and MD5 held; a transfer that breaks is resumed by
// range from where it broke, guarded by the etag. A listing ends only where the
// service's own count of entries says so: the service ends a listing that fails
// half way like a complete one (manta-muskie lib/dir.js).
//
// Unconditional requests are repeated on 5xx, throttling and lost connections.
// A conditional request is repeated only if it cannot have been applied: it was not
// answered and provably never left whole, or the answer was that the key is unknown
// (Config.AuthGrace) or that the parent directory is missing (PutOptions.Parents).
// If it was answered and not applied, the error is of the plain kinds; where it may
// have been applied, it is also [ErrUnknownOutcome]: read back and decide.
//
// Directories are made from the bottom up, and only where nothing is: the service
// lets a directory take the place of an object, content and all.
//
// All methods of [Client] are safe for concurrent use. At most Config.Parallel
// requests are under way at once; open readers do not count.
//
// # Sources
//
// The facts about the service are from its source (TritonDataCenter/manta-muskie)
// and from recorded exchanges of its npm clients, testdata/wire/manta.
package manta

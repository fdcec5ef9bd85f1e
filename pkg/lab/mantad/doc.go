// Package mantad is a stand-in for Manta's web API, for rehearsal and tests. It
// answers as the service does where clients can tell the difference, and it is
// meant to be at least as unforgiving.
//
// # Sources
//
// The order of checks, status codes, error codes, messages and headers follow
// the service's own source (TritonDataCenter/manta-muskie 2.8.4 with restify
// 6.4.0, restify-errors 5, http-signature 1.4.0 and node-libmanta), read in
// November 2026. Where its source and the public documentation differ, the
// source is what this package does. Notably:
//
//   - An object PUT is checked in this order: date and Authorization header
//     (400), signature (401, 403), path (400), missing parent (404), permission
//     (403), condition (412), root directory (400), length and durability level
//     (400), overwriting a directory (400), parent that is an object (400),
//     directory limit (409), space (507), and only then is the body asked for
//     (100 Continue). The condition is checked again when the object is
//     committed (409 ConcurrentRequest).
//   - A PUT with neither Content-Length nor chunked encoding stores an empty
//     object: the service's 411 cannot be reached.
//   - An empty object's Content-MD5 is not checked, and its durability level is
//     reported as 0.
//   - An If-Match header with an empty value is no condition at the start, but
//     it does make the commit conditional.
//   - m-* headers beyond 4 KB in all are dropped without an error.
//   - PUT of a directory over an object replaces the object. PUT of a directory
//     is not subject to the directory limit.
//   - A request without credentials gets 403 AuthorizationFailed; 401
//     AuthorizationRequired is for x-auth-token without a signature. A Date more
//     than 600 s in the past gets 400 RequestExpired, one off by more than 300 s
//     in either direction 400 InvalidHeader.
//   - A limit out of range gets 400 with code InvalidArgumentError.
//   - Percent-escapes are decoded segment by segment, after the path was split:
//     "a%2Fb" names b in a. "." and ".." are ordinary names, nothing is
//     normalised but repeated and trailing slashes.
//
// # What differs
//
// Access control knows account owners, operators, /public, and sub-users that
// hold a role ([Server.AddUser]); there are no policies or role tags. There are
// no jobs, no multipart uploads (as a service with that feature off: 404), no
// auth tokens (501). Names with a NUL or paths beyond 2700 bytes get 500, since
// the service's database refuses them. A path with a malformed percent-escape is
// refused with 400 by the HTTP library, without a JSON body.
//
// # Storage
//
// Everything is below Config.Dir and one process at a time uses it:
//
//	meta.log       one record per change: CRC, length, operation, path, metadata
//	packs/*.pack   bodies up to 64 KiB, appended
//	objects/xx/id  larger bodies, one file each, named by object id
//	accounts.json  accounts, users and public keys
//
// Names never become file names. A body is written first and exists only once
// meta.log refers to it, so that after the death of the process, kill -9
// included, an object is whole or absent and what was acknowledged is there.
// Nothing is synced to the disk: a power loss may lose the latest writes, which
// a stand-in can afford. The index of names is held in memory, about 200 bytes
// per entry, and read back from meta.log at start; the log is rewritten at start
// when most of it is history.
package mantad

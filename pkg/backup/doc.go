// Package backup keeps the data of a standalone IMGAPI instance in a store so
// that it can be got back as it was, or as it was at an earlier moment.
//
// # Terms
//
//   - Entry: one file of the instance, named by its path below /data/imgapi.
//     Manifests and a few files of etc are inline entries: the log carries their
//     bytes. Image files and icons are object entries: stored beside the log.
//   - State: all entries at one moment, with a SHA-256 over their list.
//   - Record: one numbered line of the log. Created only if absent, so that two
//     writers can never both write number N. It carries the SHA-256 of the record
//     before it, the writer and his epoch.
//   - Generation: the state after a record; its number is the record's.
//   - Base: a state written out whole, so that reading it back does not need the
//     log from its beginning. Two are always kept.
//   - Mirror: backup/manifests and backup/images, laid out as the stock scripts
//     do. Last writer wins there; it is never the truth.
//   - History: image files that a kept generation names and the mirror no longer
//     holds, named by their content.
//
// The formats are specified in docs/formats.md.
package backup

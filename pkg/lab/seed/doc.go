// Package seed fills an IMGAPI data directory with a believable set of images.
//
// The same configuration gives the same tree, byte for byte and with the same
// modification times, on every machine and with any number of CPUs: each image
// depends only on the seed and its own number. Nothing is fsynced, as nothing is
// on the real server.
//
// The server reads manifests once, so seed while it is down or restart it
// afterwards. Seeding twice with the same configuration changes nothing; another
// seed adds images.
package seed

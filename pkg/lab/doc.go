// Package lab runs a rehearsal region in one process: a Manta and standalone
// IMGAPI instances on loopback, with the shims that stand for the commands of a
// real zone.
//
// [Up] starts it from a directory D, or continues it: ports, keys and data in D
// survive restarts and crashes. [Reflect] tells what a directory holds and
// whether it runs; [Down] ends it. Everything else goes through the control
// socket ([Client]). The lab listens on loopback only, and one process at a time
// uses a directory.
//
// Below D:
//
//	lab.json           ports, names and fingerprints; no secrets
//	lock               held by the running process
//	run/control.sock   HTTP and JSON, mode 0600 (elsewhere if D's path is long)
//	faults.json        the faults in force
//	lab.log            what a detached lab says
//	home/.ssh          the operator's keys: Manta account and signed IMGAPI writes
//	manta/             Manta's certificate and state
//	bin/<instance>/    shims: svcadm, svcs, crontab, zonename, hostname, mdata-get
//	<instance>/root/   the zone's root: data/imgapi, var/log/triton, root/.ssh
//
// # What stands for what
//
// An instance's root is laid out as the stock set-up leaves it, after the hourly
// jobs ran once, with the stock configuration: new image files go to Manta. The
// front has the two ports of the stock haproxy, TLS and plain HTTP behind the
// PROXY protocol; it does not refuse requests with two Content-Length headers, as
// the real one does. The job that rotates and uploads logs is simulated, with its
// status file and its objects in Manta; the stock backup job is listed by the
// crontab shim and never run. Services are restarted about a second after they
// die and put into maintenance after ten deaths in ten minutes, as SMF does.
package lab

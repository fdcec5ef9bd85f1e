package imgapid

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// signs says whether a user's signature with the test key is taken.
func (m *mantaSite) signs(user string) bool {
	date := time.Now().UTC().Format(http.TimeFormat)
	return m.do(request{method: "GET", path: "/state", unsigned: true, header: map[string]string{
		"Date": date, "Authorization": sign(testKey(), user, "rsa-sha256", "date: "+date)}}).status == 200
}

func (m *mantaSite) reload() {
	m.t.Helper()
	m.want(200, post("/authkeys/reload", ""))
}

func TestKeysInMantaAreTakenAtStartAndOnReloadButNotRevoked(t *testing.T) {
	m := newMantaSite(t, nil)
	m.putObject("authkeys/carol.keys", publicLine(t))
	m.putObject("authkeys/dave.keys", publicLine(t))
	m.putObject("authkeys/notes.txt", "no keys")
	if m.signs("carol") {
		t.Error("known before anybody looked")
	}
	m.reload()
	waitFor(t, "carol", func() bool { return m.signs("carol") })
	if _, err := os.Stat(m.data("etc/authkeys/manta/notes.txt")); err == nil {
		t.Error("a file that is no key file was fetched")
	}
	remove := func(name string) {
		t.Helper()
		if err := m.c.Delete(t.Context(), mantaRoot+"/authkeys/"+name); err != nil {
			t.Fatal(err)
		}
	}
	remove("carol.keys")
	m.reload()
	m.putObject("authkeys/erin.keys", publicLine(t)) // a sign that the removal was seen
	m.reload()
	waitFor(t, "erin", func() bool { return m.signs("erin") })
	if !m.signs("carol") {
		t.Error("revoked by a poll")
	}
	m.putObject("authkeys/erin.keys", "# nobody\n")
	m.reload()
	waitFor(t, "the change", func() bool { return !m.signs("erin") })
	m.restart()
	<-m.p.KeysPolled()
	if m.signs("carol") || !m.signs("dave") {
		t.Error("a restart cleans up what is not in Manta any more, and only that")
	}
	remove("dave.keys")
	remove("erin.keys")
	m.restart()
	<-m.p.KeysPolled()
	if !m.signs("dave") || !strings.Contains(m.log.String(), "sync-delete-guard") {
		t.Error("an empty directory in Manta leaves the revoked key")
	}
}

func TestOneFailedPollStopsPolling(t *testing.T) {
	m := newMantaSite(t, nil)
	m.p.Kill()
	m.cfg.KeysEvery = 30 * time.Millisecond
	m.start()
	m.putObject("authkeys/carol.keys", publicLine(t))
	waitFor(t, "carol", func() bool { return m.signs("carol") })
	m.down()
	waitFor(t, "the failed poll", func() bool { return strings.Contains(m.log.String(), "error polling manta for auth keys") })
	m.up()
	m.putObject("authkeys/dave.keys", publicLine(t))
	time.Sleep(200 * time.Millisecond)
	if m.signs("dave") {
		t.Error("polled again")
	}
	m.reload()
	waitFor(t, "dave", func() bool { return m.signs("dave") })
	m.putObject("authkeys/erin.keys", publicLine(t))
	waitFor(t, "polling to go on", func() bool { return m.signs("erin") })
}

func TestWithLocalStorageKeysStillComeFromManta(t *testing.T) {
	m := newMantaSite(t, map[string]any{"storageTypes": []string{"local"}})
	m.putObject("authkeys/carol.keys", publicLine(t))
	m.reload()
	waitFor(t, "carol", func() bool { return m.signs("carol") })
	u := m.active("a", "content")
	m.wantNoObject(in(u, "file0"))
	m.want(503, post("/images/"+u+"?action=export&manta_path=/bob/stor", ""))
}

func TestExportCopiesWithinManta(t *testing.T) {
	m := newMantaSite(t, nil)
	u := m.active("a", "content")
	a := m.want(200, post("/images/"+u+"?action=export&manta_path="+mantaRoot, "")).object(t)
	if a["image_path"] != mantaRoot+"/a-1.0.0.zfs" || a["manifest_path"] != mantaRoot+"/a-1.0.0.imgmanifest" {
		t.Errorf("%v", a)
	}
	m.wantObject("a-1.0.0.zfs", "content")
	if got, _ := m.object("a-1.0.0.imgmanifest"); !strings.Contains(got, u) {
		t.Errorf("%s", got)
	}
	m.want(200, post("/images/"+u+"?action=export&manta_path="+mantaRoot+"/x", ""))
	m.wantObject("x.zfs", "content")
}

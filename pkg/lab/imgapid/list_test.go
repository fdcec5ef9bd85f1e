package imgapid

import (
	"fmt"
	"slices"
	"testing"
)

// six images, published in order; the last inserted is the oldest.
func listSite(t *testing.T) (*site, []string) {
	s := newSite(t, nil)
	var uuids []string
	for i := range 6 {
		u := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)
		uuids = append(uuids, u)
	}
	for _, i := range []int{1, 2, 3, 4, 5, 0} {
		s.importAt(uuids[i], fmt.Sprintf("imp%d", i), fmt.Sprintf("2015-01-0%dT00:00:00.000Z", i+1))
	}
	return s, uuids
}

func names(list []map[string]any) []string {
	var out []string
	for _, m := range list {
		out = append(out, m["name"].(string))
	}
	return out
}

func TestListImagesOrderLimitAndMarkerQuirks(t *testing.T) {
	s, uuids := listSite(t)
	check := func(query string, want ...string) {
		t.Helper()
		if got := names(s.want(200, get("/images"+query)).list(t)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	check("", "imp0", "imp1", "imp2", "imp3", "imp4", "imp5")
	check("?limit=2", "imp1", "imp2") // memory order until the restart
	s.restart()
	check("?limit=2", "imp0", "imp1")
	check("?sort=published_at.DESC&limit=2", "imp1", "imp0") // the two oldest, reversed
	check("?sort=published_at.DESC", "imp5", "imp4", "imp3", "imp2", "imp1", "imp0")
	check("?limit=2&marker="+uuids[3], "imp3", "imp4") // inclusive
	check("?limit=1&marker="+uuids[5], "imp5")
	check("?marker=2015-01-05", "imp4", "imp5")
	check("?sort=published_at.DESC&marker=2015-01-02T00:00:00.000Z", "imp1", "imp0")
	check("?limit=0", "imp0", "imp1", "imp2", "imp3", "imp4", "imp5")
	check("?limit=-1")
	check("?limit=2.5", "imp0", "imp1")
	check("?name=imp3", "imp3")
	check("?name=~p3", "imp3")
	check("?name=")
	check("?name=a&name=b")
	check("?type=!lx-dataset")
	check("?type=!zvol&limit=1", "imp0")
	check("?uuid="+uuids[2]+"&limit=1", "imp0") // unknown parameters are ignored
	check("?state=disabled")
	check("?state=all&limit=1", "imp0")
	check("?owner="+unsetOwner+"&limit=1", "imp0")
	check("?account="+owner+"&limit=1", "imp0")
	s.want(404, get("/images?marker="+owner))
	for _, q := range []string{"?limit=abc", "?state=nope", "?marker=never", "?sort=name"} {
		if a := s.want(422, get("/images"+q)); a.code() != "InvalidParameter" {
			t.Errorf("%s: %s", q, a.body)
		}
	}
	if f := s.do(get("/images?limit=abc")).object(t)["errors"].([]any)[0].(map[string]any)["field"]; f != "state" {
		t.Errorf("blame on %v", f)
	}
	if a := s.do(get("/images?limit=1")); a.h.Get("Etag") != "" || a.h.Get("Link") != "" {
		t.Errorf("%v", a.h)
	}
}

func TestListsShowWhatTheCallerMaySee(t *testing.T) {
	s := newSite(t, map[string]any{"mode": "private"})
	u := s.create("unactivated", "")
	a := s.active("mine", "x")
	s.want(200, post("/images/"+a+"?action=update", `{"tags":{"role":"os"}}`))
	if l := s.want(200, get("/images?state=all")).list(t); len(l) != 1 {
		t.Errorf("anonymous: %v", names(l))
	}
	if l := s.want(200, signedGet("/images?state=all")).list(t); len(l) != 2 {
		t.Errorf("signed: %v", names(l))
	}
	if l := s.want(200, signedGet("/images?state=unactivated")).list(t); len(l) != 1 || l[0]["uuid"] != u {
		t.Errorf("unactivated: %v", names(l))
	}
	const other = "11111111-1111-4111-8111-111111111111"
	if l := s.want(200, get("/images?account="+other)).list(t); len(l) != 0 {
		t.Errorf("a stranger sees %v", names(l))
	}
	s.want(404, get("/images/"+a+"?account="+other))
	s.want(200, post("/images/"+a+"/acl", `["`+other+`"]`))
	if l := s.want(200, get("/images?account="+other)).list(t); len(l) != 1 {
		t.Errorf("shared image: %v", names(l))
	}
	if l := s.want(200, get("/images?tag.role=os")).list(t); len(l) != 1 {
		t.Errorf("tag: %v", names(l))
	}
	if l := s.want(200, get("/images?tag.role=none")).list(t); len(l) != 0 {
		t.Errorf("tag: %v", names(l))
	}
	s.want(401, get("/images?inclAdminFields=true"))
	if stor := s.want(200, signedGet("/images/"+a+"?inclAdminFields=true")).object(t)["files"].([]any)[0].(map[string]any)["stor"]; stor != "local" {
		t.Errorf("stor %v", stor)
	}
	s.want(422, post("/images/"+a+"?action=disable&account="+other, ""))
}

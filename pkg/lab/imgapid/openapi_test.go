package imgapid

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// spec is an OpenAPI 3.0 description, as far as answers need it.
type spec struct {
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

type operation struct {
	Parameters []struct {
		In, Name string
	} `json:"parameters"`
	Responses map[string]struct {
		Content map[string]struct {
			Schema schema `json:"schema"`
		} `json:"content"`
	} `json:"responses"`
}

type schema struct {
	Ref        string            `json:"$ref"`
	Type       string            `json:"type"`
	Format     string            `json:"format"`
	Nullable   bool              `json:"nullable"`
	Required   []string          `json:"required"`
	Enum       []any             `json:"enum"`
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
	AllOf      []schema          `json:"allOf"`
	OneOf      []schema          `json:"oneOf"`
}

func loadSpec(t *testing.T) *spec {
	t.Helper()
	dir := os.Getenv("TRITONOPS_OPENAPI")
	if dir == "" {
		t.Skip("TRITONOPS_OPENAPI does not name a folder with imgapi-api.json")
	}
	b, err := os.ReadFile(filepath.Join(dir, "imgapi-api.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s spec
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func (s *spec) check(at string, sc schema, v any) []string {
	if sc.Ref != "" {
		return s.check(at, s.Components.Schemas[sc.Ref[strings.LastIndex(sc.Ref, "/")+1:]], v)
	}
	if v == nil {
		if sc.Nullable || sc.Type == "" {
			return nil
		}
		return []string{at + ": null"}
	}
	var errs []string
	for _, a := range sc.AllOf {
		errs = append(errs, s.check(at, a, v)...)
	}
	if len(sc.OneOf) > 0 && !slices.ContainsFunc(sc.OneOf, func(o schema) bool { return len(s.check(at, o, v)) == 0 }) {
		errs = append(errs, fmt.Sprintf("%s: %v is none of the alternatives", at, v))
	}
	if len(sc.Enum) > 0 && !slices.Contains(sc.Enum, v) {
		errs = append(errs, fmt.Sprintf("%s: %v is not of %v", at, v, sc.Enum))
	}
	return append(errs, s.checkType(at, sc, v)...)
}

func (s *spec) checkType(at string, sc schema, v any) []string {
	var errs []string
	ok := true
	switch sc.Type {
	case "object":
		var m map[string]any
		m, ok = v.(map[string]any)
		for _, r := range sc.Required {
			if _, has := m[r]; !has {
				errs = append(errs, at+"."+r+": missing")
			}
		}
		for k, p := range sc.Properties {
			if e, has := m[k]; has {
				errs = append(errs, s.check(at+"."+k, p, e)...)
			}
		}
	case "array":
		var a []any
		a, ok = v.([]any)
		for i, e := range a {
			errs = append(errs, s.check(fmt.Sprintf("%s[%d]", at, i), *sc.Items, e)...)
		}
	case "string":
		var str string
		str, ok = v.(string)
		if sc.Format == "uuid" && !uuidRE.MatchString(str) {
			errs = append(errs, at+": not a uuid: "+str)
		}
	case "boolean":
		_, ok = v.(bool)
	case "integer", "number":
		_, ok = v.(float64)
	}
	if !ok {
		errs = append(errs, fmt.Sprintf("%s: %T instead of %s", at, v, sc.Type))
	}
	return errs
}

// response finds the schema of an answer, nil when the description has none.
func (o operation) response(status int) *schema {
	for _, key := range []string{fmt.Sprint(status), fmt.Sprintf("%dXX", status/100), "default"} {
		if r, ok := o.Responses[key]; ok {
			if c, ok := r.Content["application/json"]; ok {
				return &c.Schema
			}
		}
	}
	return nil
}

func TestAnswersMatchTheOpenAPIDescription(t *testing.T) {
	sp := loadSpec(t)
	s := newSite(t, map[string]any{"channels": []map[string]any{{"name": "dev", "description": "d", "default": true}}})
	const u = "0084dad6-05c1-11e4-b7ce-1f0e09d94a41"
	checked := 0
	try := func(pattern string, rq request) {
		t.Helper()
		a := s.do(rq)
		op, ok := sp.Paths[pattern][strings.ToLower(rq.method)]
		if !ok {
			t.Fatalf("%s %s is not described", rq.method, pattern)
		}
		sc := op.response(a.status)
		if sc == nil { // routes with many actions are described without a schema
			name := "Image"
			if a.status >= 400 {
				name = "Error"
			}
			sc = &schema{Ref: "#/components/schemas/" + name}
		}
		var v any
		if err := json.Unmarshal(a.body, &v); err != nil {
			t.Fatal(err)
		}
		checked++
		for _, e := range sp.check(fmt.Sprintf("%s %s %d", rq.method, rq.path, a.status), *sc, v) {
			t.Error(e)
		}
	}
	try("/ping", get("/ping"))
	try("/ping", get("/ping?error=InvalidParameter"))
	try("/channels", get("/channels"))
	try("/images", post("/images", `{"name":"a","version":"1","os":"linux","type":"zvol","nic_driver":"virtio","disk_driver":"virtio","cpu_type":"host","image_size":10240,"public":true,"owner":"`+owner+`","tags":{"a":1},"users":[{"name":"root"}],"requirements":{"networks":[{"name":"net0","description":"public"}],"ssh_key":true,"min_ram":256,"min_platform":{"7.0":"20210826T002459Z"}}}`))
	s.importAt(u, "full", "2014-07-07T10:42:17Z")
	try("/images", get("/images"))
	try("/images", signedGet("/images?state=all&inclAdminFields=true"))
	try("/images/{uuid}", get("/images/"+u))
	try("/images/{uuid}", get("/images/"+owner))
	try("/images/{uuid}", post("/images/"+u+"?action=disable", ""))
	try("/images/{uuid}", post("/images/"+u+"?action=enable", ""))
	try("/images/{uuid}", post("/images/"+u+"?action=update", `{"description":"d"}`))
	try("/images/{uuid}", post("/images/"+u+"?action=bogus", `{}`))
	try("/images/{uuid}/acl", post("/images/"+u+"/acl", `["`+owner+`"]`))
	try("/images/{uuid}/file", put("/images/"+u+"/file?compression=none", "x"))
	try("/authkeys/reload", post("/authkeys/reload", ""))
	if checked < 15 {
		t.Errorf("only %d answers had a schema", checked)
	}
}

func TestEveryDescribedRouteExists(t *testing.T) {
	sp := loadSpec(t)
	s := newSite(t, map[string]any{"channels": []map[string]any{{"name": "dev", "description": "d", "default": true}}})
	param := regexp.MustCompile(`\{[a-z]+\}`)
	for path, ops := range sp.Paths {
		for method := range ops {
			if path == "/images/{uuid}/clone" { // data center mode only
				continue
			}
			concrete := param.ReplaceAllString(path, owner)
			if !slices.ContainsFunc(s.p.table, func(rt route) bool {
				_, ok := rt.match(concrete)
				return ok && rt.method == strings.ToUpper(method)
			}) {
				t.Errorf("%s %s is described and not routed", method, path)
			}
		}
	}
}

// Package pkg_test holds the boundaries between packages: who may import whom,
// which third-party module is confined to which package, and what no library
// may do. DESIGN is prose; this is what makes it true.
package pkg_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/tritonops/tritonops/"

// layer says what a package, with everything below it, may import of ours. The
// longest matching path counts. A package may always import what lies below it.
type layer struct {
	path string
	may  []string
}

func layers() []layer {
	base := []string{"pkg/fail", "pkg/durable"}
	client := []string{"pkg/fail", "pkg/rest"}
	// Domain packages reach services through interfaces they declare.
	domain := append([]string{"pkg/procedure", "pkg/health", "pkg/instance", "pkg/backup"}, base...)
	all := []layer{
		{"pkg/fail", nil},
		{"pkg/durable", nil},
		{"pkg/peers", nil},
		{"pkg/ui", []string{"pkg/fail"}},
		{"pkg/rest", []string{"pkg/fail"}},
		{"pkg/procedure", base}, // the engine knows no service
		{"pkg/lab", base},       // a misreading of a service must not be shared by both sides
		// Adapters: the one place where a port meets its client.
		{"pkg/backup/store/mantastore", append([]string{"pkg/manta", "pkg/backup/store"}, base...)},
		{"commands", []string{"pkg"}},
		{"cmd", []string{"commands", "pkg/fail"}},
	}
	for _, p := range []string{"manta", "imgapi"} {
		all = append(all, layer{"pkg/" + p, client})
	}
	for _, p := range []string{"instance", "health", "backup"} {
		all = append(all, layer{"pkg/" + p, domain})
	}
	return all
}

// forTests lists packages that only test files may import.
func forTests() []string {
	return []string{"pkg/peers", "pkg/procedure/proctest", "pkg/backup/store/storetest"}
}

// confined says where a third-party module may be imported; none means in test
// files only. Modules that are not listed may not be imported at all.
func confined() map[string][]string {
	return map[string][]string{
		"github.com/spf13/cobra":            {"commands"},
		"github.com/spf13/pflag":            {"commands"},
		"github.com/joyent/triton-go":       {"pkg/manta"},
		"github.com/olekukonko/tablewriter": {"pkg/ui"},
		"github.com/AlecAivazis/survey":     {"pkg/ui"},
		"github.com/vbauerster/mpb":         {"pkg/ui"},
		"github.com/dustin/go-humanize":     {"pkg/ui", "commands"},
		"github.com/google/uuid":            {"pkg", "commands"},
		"github.com/ulikunitz/xz":           {"pkg/instance", "pkg/lab"},
		"github.com/dsnet/compress":         {"pkg/lab"},
		"golang.org/x/crypto":               {"pkg/manta", "pkg/lab", "commands"},
		"golang.org/x/term":                 {"pkg/ui"},
		"golang.org/x/sys":                  {"pkg", "commands"},
		"golang.org/x/sync":                 {"pkg", "commands"},
		"github.com/google/go-cmp":          nil,
		"github.com/creack/pty":             nil,
		"github.com/rogpeppe/go-internal":   nil,
	}
}

// source is one Go file of the project.
type source struct {
	path, pkg string // slash-separated, from the top of the repository
	test      bool
	set       *token.FileSet
	ast       *ast.File
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	for _, top := range []string{"pkg", "commands", "cmd"} {
		err := filepath.WalkDir(filepath.Join("..", top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			rel := strings.TrimPrefix(filepath.ToSlash(path), "../")
			pkg := rel[:strings.LastIndex(rel, "/")]
			test := strings.HasSuffix(rel, "_test.go") || slices.ContainsFunc(forTests(), func(p string) bool { return within(pkg, p) })
			all = append(all, source{rel, pkg, test, set, f})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(all) < 50 {
		t.Fatalf("only %d files found: looking in the wrong place", len(all))
	}
	return all
}

// within says whether a package is path or lies below it.
func within(pkg, path string) bool { return pkg == path || strings.HasPrefix(pkg, path+"/") }

func anyWithin(pkg string, paths []string) bool {
	return slices.ContainsFunc(paths, func(p string) bool { return within(pkg, p) })
}

// layerOf finds the rule of a package.
func layerOf(pkg string) (best layer, ok bool) {
	for _, l := range layers() {
		if within(pkg, l.path) && len(l.path) > len(best.path) {
			best, ok = l, true
		}
	}
	return best, ok
}

func TestImportsFlowDownwards(t *testing.T) {
	for _, s := range sources(t) {
		l, ok := layerOf(s.pkg)
		if !ok && s.pkg != "pkg" {
			t.Errorf("%s: package %s has no layer; add it to layers()", s.path, s.pkg)
			continue
		}
		for _, imp := range s.ast.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			own, isOwn := strings.CutPrefix(path, module)
			if !isOwn || s.test { // tests may use the lab and the test packages
				continue
			}
			if anyWithin(own, forTests()) {
				t.Errorf("%s: imports %s, which is for tests only", s.path, own)
			}
			if !within(own, l.path) && !anyWithin(own, l.may) {
				t.Errorf("%s: imports %s; %s may import only %v of ours", s.path, own, l.path, l.may)
			}
		}
	}
}

func TestTheLabIsUsedByItsCommandAndByTestsOnly(t *testing.T) {
	for _, s := range sources(t) {
		for _, imp := range s.ast.Imports {
			if own, ok := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module); ok && within(own, "pkg/lab") &&
				!s.test && !within(s.pkg, "pkg/lab") && !within(s.pkg, "commands/lab") {
				t.Errorf("%s: imports %s", s.path, own)
			}
		}
	}
}

func TestThirdPartyModulesAreConfined(t *testing.T) {
	for _, s := range sources(t) {
		for _, imp := range s.ast.Imports {
			path := strings.Trim(imp.Path.Value, `"`)
			first, _, _ := strings.Cut(path, "/")
			if !strings.Contains(first, ".") || strings.HasPrefix(path, module) {
				continue
			}
			where, known := []string(nil), false
			for mod, packages := range confined() {
				if within(path, mod) {
					where, known = packages, true
				}
			}
			switch {
			case !known:
				t.Errorf("%s: imports %s, which is not in confined(); a dependency needs a reason", s.path, path)
			case !s.test && !anyWithin(s.pkg, where):
				t.Errorf("%s: imports %s, which belongs to %v", s.path, path, where)
			}
		}
	}
}

func TestEveryDependencyIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	for mod := range confined() {
		if !strings.Contains(string(doc), "`"+mod) {
			t.Errorf("docs/dependencies.md does not say why %s is there", mod)
		}
	}
}

func TestLibrariesNeitherPrintNorExitNorReadTheEnvironment(t *testing.T) {
	banned := map[string][]string{
		"os":  {"Exit", "Stdin", "Stdout", "Stderr", "Getenv", "LookupEnv", "Environ", "Setenv", "ExpandEnv"},
		"fmt": {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
		"log": {"Print", "Printf", "Println", "Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "SetOutput"},
	}
	for _, s := range sources(t) {
		if s.test || within(s.pkg, "cmd") {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(banned[x.Name], sel.Sel.Name) {
				t.Errorf("%s: %s.%s", s.set.Position(sel.Pos()), x.Name, sel.Sel.Name)
			}
			return true
		})
	}
}

func TestThereIsNoHiddenState(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || within(s.pkg, "cmd") {
			continue
		}
		for _, d := range s.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					t.Errorf("%s: init()", s.set.Position(d.Pos()))
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok && d.Tok == token.VAR && len(v.Values) == 0 {
						t.Errorf("%s: package variable %s starts empty, so it is state", s.set.Position(v.Pos()), v.Names[0].Name)
					}
				}
			}
		}
	}
}

func TestExitIsCalledInOnePlace(t *testing.T) {
	calls := 0
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "os" && sel.Sel.Name == "Exit" {
					calls++
				}
			}
			return true
		})
	}
	if calls != 1 {
		t.Errorf("os.Exit is called in %d places, want main alone", calls)
	}
}

// Limits of the house; a longer function or file is two topics.
const (
	maxFunction = 60
	maxFile     = 400
)

func TestFunctionsAndFilesStayShort(t *testing.T) {
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		if n := s.set.File(s.ast.Pos()).LineCount(); n > maxFile {
			t.Errorf("%s: %d lines, at most %d", s.path, n, maxFile)
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			from, to := s.set.Position(f.Pos()), s.set.Position(f.End())
			if n := to.Line - from.Line + 1; n > maxFunction {
				t.Errorf("%s: %s has %d lines, at most %d", from, f.Name.Name, n, maxFunction)
			}
		}
	}
}

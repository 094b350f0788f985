package transport_test

import (
	"bytes"
	"flag"
	"go/ast"
	"go/build"
	"go/format"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files in testdata/api")

// The exported API of the three packages that programs are written against. A change
// of these files is a decision.
func TestExportedAPI(t *testing.T) {
	for _, pkg := range []string{"transport", "transport/endpoint", "tokencache"} {
		t.Run(pkg, func(t *testing.T) {
			got, names := exported(t, filepath.Join("..", pkg))
			// Of those of tokencache, a third are what a Store can do besides.
			if names > 33 {
				t.Errorf("%d exported names; about 30 is what a newcomer can hold in mind", names)
			}
			golden := filepath.Join("..", "testdata", "api", filepath.Base(pkg)+".txt")
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			wantLines := strings.Split(strings.ReplaceAll(string(want), "\r\n", "\n"), "\n")
			gotLines := strings.Split(string(got), "\n")
			for i, line := range gotLines {
				if i >= len(wantLines) || line != wantLines[i] {
					t.Fatalf("the exported API has changed, first at line %d of %s: %q; if that is meant, run: go test ./transport -run TestExportedAPI -update", i+1, golden, line)
				}
			}
			if len(wantLines) > len(gotLines) {
				t.Fatalf("the exported API has lost what %s ends with; if that is meant, run: go test ./transport -run TestExportedAPI -update", golden)
			}
		})
	}
}

// exported returns the exported declarations of the package in dir, and how many
// lines of "go doc -short" they make.
func exported(t *testing.T, dir string) (api []byte, names int) {
	t.Helper()
	pkg, err := build.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var decls []string
	for _, name := range pkg.GoFiles {
		file, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.FileExports(file)
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				d.Body = nil
				if d.Recv == nil {
					names++
				} else if !exportedReceiver(d) {
					continue // FileExports leaves these in.
				}
			case *ast.GenDecl:
				if d.Tok == token.IMPORT || len(d.Specs) == 0 {
					continue
				}
				names++
			}
			var b bytes.Buffer
			if err := format.Node(&b, fset, d); err != nil {
				t.Fatal(err)
			}
			decls = append(decls, b.String()+"\n")
		}
	}
	slices.Sort(decls)
	return []byte(strings.Join(decls, "")), names
}

// exportedReceiver reports whether the method d belongs to an exported type.
func exportedReceiver(d *ast.FuncDecl) bool {
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

// What each package may depend on, so that an application that only keeps its
// tokens in a file does not get a keyring, and nobody gets a web framework.
func TestDependencies(t *testing.T) {
	const module = "github.com/stayauth/stayauth/"
	allowed := map[string][]string{
		"tokencache": {module + "tokencache/gate", "github.com/gofrs/flock"},
		"transport":  {module + "tokencache", "golang.org/x/oauth2", "github.com/cenkalti/backoff/v4"},
		// The endpoint knows nothing of the state of a login, and transport nothing of the
		// requests to an endpoint.
		"transport/endpoint": {module + "transport", module + "tokencache", "golang.org/x/oauth2"},
	}
	for _, pkg := range slices.Sorted(maps.Keys(allowed)) {
		p, err := build.ImportDir(filepath.Join("..", pkg), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range p.Imports {
			std := !strings.Contains(strings.SplitN(path, "/", 2)[0], ".")
			std = std || strings.HasPrefix(path, module+strings.Split(pkg, "/")[0]+"/internal/")
			if !std && !slices.Contains(allowed[pkg], path) {
				t.Errorf("%s imports %s: tokencache must not know transport, nor transport its endpoint, only oskeyring knows the keyring, and heavy drivers live in nested modules", pkg, path)
			}
		}
	}
	err := filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.Contains(path, "node_modules") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imp := range f.Imports {
			switch p := strings.Trim(imp.Path.Value, `"`); {
			case strings.Contains(filepath.ToSlash(path), "transport/bench/start/"): // compares us with what others do
			case p == "github.com/zalando/go-keyring" && !strings.Contains(filepath.ToSlash(path), "tokencache/oskeyring/"):
				t.Errorf("%s imports %s: only tokencache/oskeyring may, since its calls can hang", path, p)
			case strings.HasPrefix(p, module+"transport") && strings.HasPrefix(filepath.ToSlash(path), "../tokencache/") && !strings.HasSuffix(path, "_test.go"):
				t.Errorf("%s imports %s: a cache must not know what it is used for", path, p)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

package testkit

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
)

// SecretsFileEnv is set in a child process in which the tests run, so that everything that they
// print can be searched for secrets.
const SecretsFileEnv = "STAYAUTH_TEST_SECRETS"

// Main runs the tests of a package. It fails if they print a secret.
func Main(m interface{ Run() int }) {
	fuzzing := func(arg string) bool {
		return strings.HasPrefix(arg, "-test.fuzz") && !strings.HasPrefix(arg, "-test.fuzzcachedir")
	}
	for _, arg := range os.Args[1:] {
		if fuzzing(arg) { // The fuzzer starts its workers by a protocol of its own.
			os.Exit(m.Run())
		}
	}
	if os.Getenv(SecretsFileEnv) != "" {
		os.Exit(m.Run())
	}
	os.Exit(runAndSearch())
}

// What no test may print, whoever made it: an extended regular expression on each line. The CI
// searches the output of all packages for them.
var (
	//go:embed tokens.txt
	tokens string
	//go:embed keys.txt
	keys string

	shapes = anyOf(tokens + keys)
)

// anyOf returns what matches if one of the lines does.
func anyOf(lines string) *regexp.Regexp {
	var all []string
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	return regexp.MustCompile(strings.Join(all, "|"))
}

// HasSecret reports whether a text has the shape of a secret in it.
func HasSecret(text string) bool { return shapes.MatchString(text) }

// randomPart is what a server of oauthtest makes secrets of (rand.Text).
var randomPart = regexp.MustCompile(`-[A-Z2-7]{26}`)

func runAndSearch() int {
	f, err := os.CreateTemp("", "stayauth-secrets-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	f.Close()
	defer os.Remove(f.Name())
	exe, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var out bytes.Buffer
	var mu sync.Mutex
	tee := func(w io.Writer) io.Writer {
		return writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			out.Write(p)
			return w.Write(p)
		})
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Env = append(os.Environ(), SecretsFileEnv+"="+f.Name())
	cmd.Stdout, cmd.Stderr = tee(os.Stdout), tee(os.Stderr)
	runErr := cmd.Run()
	secrets, err := os.ReadFile(f.Name())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	n := 0
	printed := out.String()
	found := func(i int) {
		n++
		fmt.Printf("--- FAIL: a secret was printed after: %q\n", shapes.ReplaceAllString(printed[max(0, i-200):i], "…"))
	}
	issued := map[string]bool{} // most have a part of this form, and there are very many
	for secret := range strings.Lines(string(secrets)) {
		secret = strings.TrimSuffix(secret, "\n")
		if part := randomPart.FindString(secret); part != "" {
			issued[part] = true
		} else if i := strings.Index(printed, secret); secret != "" && i >= 0 {
			found(i)
		}
	}
	for _, at := range shapes.FindAllStringIndex(printed, -1) {
		found(at[0])
	}
	for _, at := range randomPart.FindAllStringIndex(printed, -1) {
		if issued[printed[at[0]:at[1]]] {
			found(at[0])
		}
	}
	if n > 0 {
		fmt.Printf("FAIL: %d secrets were printed\n", n)
		return 1
	}
	if runErr != nil {
		if exit, ok := runErr.(*exec.ExitError); ok && exit.ExitCode() > 0 {
			return exit.ExitCode()
		}
		fmt.Fprintln(os.Stderr, runErr)
		return 1
	}
	return 0
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

var secretLog sync.Mutex

// NoteSecrets records secrets that nothing may print.
func NoteSecrets(secrets []string) {
	path := os.Getenv(SecretsFileEnv)
	if path == "" {
		return
	}
	secretLog.Lock()
	defer secretLog.Unlock()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := f.WriteString(strings.Join(secrets, "\n") + "\n"); err != nil {
		panic(err)
	}
}

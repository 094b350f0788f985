package oskeyring

import (
	"errors"
	"math"
	"os/exec"
	"strings"
	"syscall"
)

// goKeyring is the keyring of this operating system: that of go-keyring, except where that is
// the Secret Service. Its methods are in a file for each platform.
type goKeyring struct{}

// windowsLimit is the size of a credential (CRED_MAX_CREDENTIAL_BLOB_SIZE).
const windowsLimit = 5 * 512

// macLimit is the size of the largest value on macOS, where go-keyring hands it to the security
// program as one line of up to 4 096 bytes, in base64. A line of exactly that size fails
// without an error, so a few bytes are left free.
func macLimit(service, user string) int {
	const (
		line   = 4096 - 16
		prefix = "go-keyring-base64:"
	)
	command := strings.Join([]string{"add-generic-password -U -s", service, "-a", user, "-w", prefix}, " ")
	return max(0, (line-len(command))/4*3)
}

// noLimit is for keyrings that take values of any size.
const noLimit = math.MaxInt

// securityProblem says what the exit status of macOS's security program means: it is the last
// byte of an OSStatus.
func securityProblem(err error) Problem {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return Failed
	}
	switch exit.ExitCode() {
	case 36: // errSecInteractionNotAllowed (-25308): over SSH, or locked
		return NoSession
	case 37, 50: // errSecNoDefaultKeychain (-25307), errSecNoSuchKeychain (-25294)
		return NoCollection
	case 51, 128: // errSecAuthFailed (-25293), errUserCanceled (-128)
		return Denied
	}
	return Failed
}

// windowsProblem says what an error of the Credential Manager means.
func windowsProblem(err error) Problem {
	errno, _ := errors.AsType[syscall.Errno](err)
	switch errno {
	case 5: // ERROR_ACCESS_DENIED
		return Denied
	case 1312: // ERROR_NO_SUCH_LOGON_SESSION
		return NoSession
	case 1783: // RPC_X_BAD_STUB_DATA, the error for a credential that is too big
		return TooBig
	}
	return Failed
}

package awskms

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/stayauth/stayauth/tokencache"
)

// meaning says what a code of KMS means to whoever runs the program.
func meaning(code string) (kind error, says string) {
	corrupt, unavailable := tokencache.ErrCorrupt, tokencache.ErrUnavailable
	switch code {
	case "InvalidCiphertextException":
		return corrupt, "the wrapped key is damaged"
	case "IncorrectKeyException":
		return corrupt, "another key has wrapped it: add that to Config.OldKeys if it is yours"
	case "DisabledException":
		return unavailable, "the key is disabled: enable it"
	case "KMSInvalidStateException":
		return unavailable, "the key is about to be deleted, or its material is not there: cancel the deletion and enable it, or import the material again"
	case "KeyUnavailableException":
		return unavailable, "the key is not available now"
	case "NotFoundException":
		return unavailable, "there is no such key in the account and the Region of Config.Client"
	case "InvalidArnException":
		return unavailable, "the name of the key is not valid"
	case "InvalidKeyUsageException":
		return unavailable, "it is no symmetric encryption key"
	case "AccessDeniedException":
		return unavailable, "access denied: the policies of the key and of the role must allow kms:Encrypt and kms:Decrypt"
	case "ThrottlingException", "LimitExceededException", "RequestLimitExceeded", "TooManyRequestsException":
		return unavailable, "KMS limits the rate of requests: ask for a higher quota"
	case "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException", "IncompleteSignature",
		"SignatureDoesNotMatch", "ExpiredTokenException", "ExpiredToken", "MissingAuthenticationToken":
		return unavailable, "the credentials of Config.Client are not valid, or have expired"
	}
	return unavailable, "KMS says " + word(code)
}

// problem returns what the caller sees of err. It is not wrapped: errors of the client hold the
// request and the answer, and their texts may repeat them.
func problem(ctx context.Context, op, key string, err error) error {
	what := "awskms: " + op + " with key " + key
	if e := ctx.Err(); e != nil {
		return fmt.Errorf("%s: %w: %w", what, tokencache.ErrUnavailable, e)
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		kind, says := meaning(e.ErrorCode())
		return fmt.Errorf("%s: %w: %s", what, kind, says)
	}
	return fmt.Errorf("%s: %w: %s", what, tokencache.ErrUnavailable, harmless(err))
}

// word returns a code if it is one, not a text.
func word(code string) string {
	letter := func(r rune) bool { return 'a' <= r|0x20 && r|0x20 <= 'z' }
	if code == "" || len(code) > 60 || strings.TrimFunc(code, letter) != "" {
		return "an error without a code"
	}
	return code
}

func harmless(err error) string {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "KMS does not answer in time"
	}
	if strings.Contains(err.Error(), "get identity") {
		return "Config.Client has no credentials: does the machine or the pod have a role?"
	}
	return "the request failed without an answer of KMS"
}

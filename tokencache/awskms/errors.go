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
func meaning(code string) (says string, kind error) {
	corrupt, unavailable := tokencache.ErrCorrupt, tokencache.ErrUnavailable
	switch code {
	case "InvalidCiphertextException":
		return "the wrapped key is damaged", corrupt
	case "IncorrectKeyException":
		return "another key has wrapped it: add that to Config.OldKeys if it is yours", corrupt
	case "DisabledException":
		return "the key is disabled: enable it", unavailable
	case "KMSInvalidStateException":
		return "the key is about to be deleted, or its material is not there: cancel the deletion and enable it, or import the material again", unavailable
	case "KeyUnavailableException":
		return "the key is not available now", unavailable
	case "NotFoundException":
		return "there is no such key in the account and the Region of Config.Client", unavailable
	case "InvalidArnException":
		return "the name of the key is not valid", unavailable
	case "InvalidKeyUsageException":
		return "it is no symmetric encryption key", unavailable
	case "AccessDeniedException":
		return "access denied: the policies of the key and of the role must allow kms:Encrypt and kms:Decrypt", unavailable
	case "ThrottlingException", "LimitExceededException", "RequestLimitExceeded", "TooManyRequestsException":
		return "KMS limits the rate of requests: ask for a higher quota", unavailable
	case "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException", "IncompleteSignature",
		"SignatureDoesNotMatch", "ExpiredTokenException", "ExpiredToken", "MissingAuthenticationToken":
		return "the credentials of Config.Client are not valid, or have expired", unavailable
	}
	return "KMS says " + word(code), unavailable
}

// problem returns what the caller sees of err. It is not wrapped: errors of the client hold the
// request and the answer, and their texts may repeat them.
func problem(ctx context.Context, op, key string, err error) error {
	what := "awskms: " + op + " with key " + key
	if e := ctx.Err(); e != nil {
		return fmt.Errorf("%s: %w: %w", what, tokencache.ErrUnavailable, e)
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		says, kind := meaning(e.ErrorCode())
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

/* A PKCS#11 library that forwards to another one and makes the faults that the
 * file CONTROL asks for, one "word number" per line, read anew at every call.
 * It is for tests: what an operator sees of a sick HSM, from inside or outside
 * of the process that uses it. REAL, CONTROL and LOG are set by the compiler. */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long rv; /* CK_RV, CK_ULONG and every handle */
typedef unsigned char byte;

/* CK_FUNCTION_LIST of PKCS#11 v2.40: a version and 68 functions in this order. */
enum {
	INITIALIZE = 0, FINALIZE = 1, GET_FUNCTION_LIST = 3, GET_SLOT_LIST = 4, OPEN_SESSION = 12,
	CLOSE_SESSION = 13, LOGIN = 18, LOGOUT = 19, DESTROY_OBJECT = 22, GET_ATTRIBUTE = 24,
	SET_ATTRIBUTE = 25, FIND_INIT = 26, FIND = 27, FIND_FINAL = 28, SIGN_INIT = 42, SIGN = 43,
	GENERATE_PAIR = 59, GENERATE_RANDOM = 64, FUNCTIONS = 68
};
struct list { byte major, minor; void *f[FUNCTIONS]; };

#define OK 0x00UL
#define DEVICE_REMOVED 0x32UL
#define SESSION_HANDLE_INVALID 0xB3UL

static struct list *real, mine;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned long signatures; /* guarded by mutex */

struct faults {
	long sessions;    /* a session opened under another number is lost */
	long gone;        /* 1: the token was pulled out */
	long hang;        /* 1: a signature or a login waits until this is 0 */
	long delay_ms;    /* each signature takes so much longer */
	long error;       /* CKR_ code of a signature that goes wrong */
	long error_every; /* which ones go wrong: each n-th, 0: none */
	long flip_every;  /* in which ones a bit is wrong: each n-th, 0: none */
	long keygen_error; /* CKR_ code of C_GenerateKeyPair, 0: none */
};

static struct faults read_faults(void) {
	struct faults f;
	char text[1024], *line, *rest, word[64];
	long value;
	int fd = open(CONTROL, O_RDONLY | O_CLOEXEC);
	ssize_t n;
	memset(&f, 0, sizeof f);
	if (fd < 0) return f;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (sscanf(line, "%63s %ld", word, &value) != 2) continue;
		if (!strcmp(word, "sessions")) f.sessions = value;
		else if (!strcmp(word, "gone")) f.gone = value;
		else if (!strcmp(word, "hang")) f.hang = value;
		else if (!strcmp(word, "delay_ms")) f.delay_ms = value;
		else if (!strcmp(word, "error")) f.error = value;
		else if (!strcmp(word, "error_every")) f.error_every = value;
		else if (!strcmp(word, "flip_every")) f.flip_every = value;
		else if (!strcmp(word, "keygen_error")) f.keygen_error = value;
	}
	return f;
}

/* note adds a line to the log; one write, so that lines stay whole. */
static void note(const char *what) {
	char line[64];
	int n = snprintf(line, sizeof line, "%s\n", what), fd = open(LOG, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) return;
	if (write(fd, line, n) != n) abort(); /* a count that is short would pass tests wrongly */
	close(fd);
}

static void pause_ms(long ms) {
	struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
	nanosleep(&t, NULL);
}

/* A session's handle bears, above the real one, the number that it was opened under. */
static rv outer(rv session, long number) { return session | (rv)number << 32; }
static rv inner(rv session) { return session & 0xffffffffUL; }

static rv judge(rv session, const struct faults *f) {
	if (f->gone) return DEVICE_REMOVED;
	if ((long)(session >> 32) != f->sessions) return SESSION_HANDLE_INVALID;
	return OK;
}

#define ENTER(session) \
	struct faults f = read_faults(); \
	rv verdict = judge(session, &f); \
	if (verdict != OK) return verdict

static rv get_slot_list(byte present, rv *slots, rv *count) {
	struct faults f = read_faults();
	if (f.gone && present) { *count = 0; return OK; }
	return ((rv(*)(byte, rv *, rv *))real->f[GET_SLOT_LIST])(present, slots, count);
}
static rv open_session(rv slot, rv flags, void *a, void *b, rv *session) {
	struct faults f = read_faults();
	rv r;
	if (f.gone) return DEVICE_REMOVED;
	r = ((rv(*)(rv, rv, void *, void *, rv *))real->f[OPEN_SESSION])(slot, flags, a, b, session);
	if (r == OK) *session = outer(*session, f.sessions);
	return r;
}
static rv close_session(rv s) {
	struct faults f = read_faults();
	rv verdict = judge(s, &f), r = ((rv(*)(rv))real->f[CLOSE_SESSION])(inner(s));
	return verdict != OK ? verdict : r;
}
static rv login(rv s, rv user, byte *pin, rv n) {
	rv r;
	ENTER(s);
	while (f.hang) {
		pause_ms(5);
		f = read_faults();
	}
	r = ((rv(*)(rv, rv, byte *, rv))real->f[LOGIN])(inner(s), user, pin, n);
	note(r == OK ? "login" : "login refused");
	return r;
}
static rv logout(rv s) { ENTER(s); return ((rv(*)(rv))real->f[LOGOUT])(inner(s)); }
static rv destroy(rv s, rv o) { ENTER(s); return ((rv(*)(rv, rv))real->f[DESTROY_OBJECT])(inner(s), o); }
static rv get_attribute(rv s, rv o, void *t, rv n) { ENTER(s); return ((rv(*)(rv, rv, void *, rv))real->f[GET_ATTRIBUTE])(inner(s), o, t, n); }
static rv set_attribute(rv s, rv o, void *t, rv n) { ENTER(s); return ((rv(*)(rv, rv, void *, rv))real->f[SET_ATTRIBUTE])(inner(s), o, t, n); }
static rv find_init(rv s, void *t, rv n) { ENTER(s); return ((rv(*)(rv, void *, rv))real->f[FIND_INIT])(inner(s), t, n); }
static rv find(rv s, rv *o, rv max, rv *n) { ENTER(s); return ((rv(*)(rv, rv *, rv, rv *))real->f[FIND])(inner(s), o, max, n); }
static rv find_final(rv s) { ENTER(s); return ((rv(*)(rv))real->f[FIND_FINAL])(inner(s)); }
static rv random_bytes(rv s, byte *p, rv n) { ENTER(s); return ((rv(*)(rv, byte *, rv))real->f[GENERATE_RANDOM])(inner(s), p, n); }
static rv generate_pair(rv s, void *m, void *a, rv an, void *b, rv bn, rv *pub, rv *priv) {
	ENTER(s);
	if (f.keygen_error) return (rv)f.keygen_error;
	return ((rv(*)(rv, void *, void *, rv, void *, rv, rv *, rv *))real->f[GENERATE_PAIR])(inner(s), m, a, an, b, bn, pub, priv);
}
static rv sign_init(rv s, void *m, rv k) { ENTER(s); return ((rv(*)(rv, void *, rv))real->f[SIGN_INIT])(inner(s), m, k); }

static rv sign(rv s, byte *data, rv n, byte *signature, rv *length) {
	unsigned long count;
	rv r;
	ENTER(s);
	while (f.hang) {
		pause_ms(5);
		f = read_faults();
	}
	if (f.delay_ms) pause_ms(f.delay_ms);
	if (!signature) return ((rv(*)(rv, byte *, rv, byte *, rv *))real->f[SIGN])(inner(s), data, n, signature, length);
	pthread_mutex_lock(&mutex);
	count = ++signatures;
	pthread_mutex_unlock(&mutex);
	r = ((rv(*)(rv, byte *, rv, byte *, rv *))real->f[SIGN])(inner(s), data, n, signature, length);
	if (f.error_every > 0 && count % (unsigned long)f.error_every == 0) {
		note("error made");
		return (rv)f.error;
	}
	if (r == OK && f.flip_every > 0 && count % (unsigned long)f.flip_every == 0) {
		note("bit flipped");
		signature[*length / 2] ^= 4;
	}
	return r;
}

rv C_GetFunctionList(struct list **out) {
	pthread_mutex_lock(&mutex);
	if (!real) {
		void *library = dlopen(REAL, RTLD_NOW | RTLD_LOCAL);
		rv (*get)(struct list **) = library ? (rv(*)(struct list **))dlsym(library, "C_GetFunctionList") : NULL;
		if (!get || get(&real) != OK) {
			real = NULL;
			pthread_mutex_unlock(&mutex);
			return 0x06; /* CKR_FUNCTION_FAILED */
		}
		mine = *real;
		mine.f[GET_FUNCTION_LIST] = (void *)C_GetFunctionList;
		mine.f[GET_SLOT_LIST] = (void *)get_slot_list;
		mine.f[OPEN_SESSION] = (void *)open_session;
		mine.f[CLOSE_SESSION] = (void *)close_session;
		mine.f[LOGIN] = (void *)login;
		mine.f[LOGOUT] = (void *)logout;
		mine.f[DESTROY_OBJECT] = (void *)destroy;
		mine.f[GET_ATTRIBUTE] = (void *)get_attribute;
		mine.f[SET_ATTRIBUTE] = (void *)set_attribute;
		mine.f[FIND_INIT] = (void *)find_init;
		mine.f[FIND] = (void *)find;
		mine.f[FIND_FINAL] = (void *)find_final;
		mine.f[SIGN_INIT] = (void *)sign_init;
		mine.f[SIGN] = (void *)sign;
		mine.f[GENERATE_PAIR] = (void *)generate_pair;
		mine.f[GENERATE_RANDOM] = (void *)random_bytes;
	}
	pthread_mutex_unlock(&mutex);
	*out = &mine;
	return OK;
}

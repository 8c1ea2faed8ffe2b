/* Connects to 127.0.0.1 as fast as it can, and resets each connection at once.
 *
 *     flood PORT SECONDS
 *
 * Prints how many connections it has made. */

#include "wire.h"

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)atoi(argv[1])),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    double end = now() + atof(argv[2]);
    long made = 0;
    while (now() < end) {
        int sock = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (sock < 0) die("socket");
        setsockopt(sock, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        if (connect(sock, (struct sockaddr *)&address, sizeof address) == 0 || errno == EINPROGRESS)
            made++;
        close(sock);
    }
    printf("{\"messages\": %ld}\n", made);
    return 0;
}

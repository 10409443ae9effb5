package agentops;

/**
 * The command line.
 *
 * @param bootstrap host:port of the broker
 * @param prefix topic prefix
 * @param registry URL of a schema registry, null for single objects
 * @param verbose whether to print topic, partition and offset of each record
 * @param file lines of JSON, "-" for stdin, null for the demo
 */
record Options(String bootstrap, String prefix, String registry, boolean verbose, String file) {
    private static final String USAGE =
            "usage: produce.jar [--bootstrap HOST:PORT] [--prefix PREFIX] [--registry URL]"
                    + " [--verbose] [FILE | -]";

    static Options parse(String[] arguments) {
        String bootstrap = "127.0.0.1:9092";
        String prefix = "agentops.";
        String registry = null;
        String file = null;
        boolean verbose = false;
        for (int at = 0; at < arguments.length; at++) {
            switch (arguments[at]) {
                case "--bootstrap" -> bootstrap = value(arguments, ++at);
                case "--prefix" -> prefix = value(arguments, ++at);
                case "--registry" -> registry = value(arguments, ++at);
                case "--verbose" -> verbose = true;
                default -> {
                    if (file != null || arguments[at].startsWith("--")) {
                        throw new IllegalArgumentException(arguments[at] + "\n" + USAGE);
                    }
                    file = arguments[at];
                }
            }
        }
        return new Options(bootstrap, prefix, registry, verbose, file);
    }

    private static String value(String[] arguments, int at) {
        if (at == arguments.length) {
            throw new IllegalArgumentException(arguments[at - 1] + " needs a value\n" + USAGE);
        }
        return arguments[at];
    }
}

import java.io.*;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.zip.*;
import javax.tools.*;

/** Compiles Java sources to a jar: once, as a command, or again and again, as a persistent worker. */
public class JavacWorker {
  private final JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
  private int served;

  public static void main(String[] args) throws IOException {
    JavacWorker worker = new JavacWorker();
    String last = args[args.length - 1];
    if (last.equals("--persistent_worker")) {
      worker.serve(new DataInputStream(new BufferedInputStream(System.in)), System.out);
      return;
    }
    StringWriter output = new StringWriter();
    int code = worker.compile(Files.readAllLines(Path.of(last.substring(1))), "command", output);
    System.err.print(output);
    System.exit(code);
  }

  private void serve(DataInputStream in, PrintStream out) throws IOException {
    for (in.mark(1); in.read() >= 0; in.mark(1)) {
      in.reset();
      byte[] request = in.readNBytes(readVarint(in));
      StringWriter output = new StringWriter();
      int code = compile(arguments(request), "worker request " + ++served, output);
      ByteArrayOutputStream response = new ByteArrayOutputStream();
      byte[] text = output.toString().getBytes(StandardCharsets.UTF_8);
      response.write(1 << 3);
      writeVarint(response, code);
      response.write(2 << 3 | 2);
      writeVarint(response, text.length);
      response.write(text);
      ByteArrayOutputStream whole = new ByteArrayOutputStream();
      writeVarint(whole, response.size());
      response.writeTo(whole);
      whole.writeTo(out);
      out.flush();
    }
  }

  /** The arguments are the fields 1 of a WorkRequest; of the others, only their ends matter. */
  private static List<String> arguments(byte[] request) throws IOException {
    List<String> arguments = new ArrayList<>();
    DataInputStream in = new DataInputStream(new ByteArrayInputStream(request));
    while (in.available() > 0) {
      int tag = readVarint(in);
      if ((tag & 7) == 2) {
        byte[] value = in.readNBytes(readVarint(in));
        if (tag >> 3 == 1) {
          arguments.add(new String(value, StandardCharsets.UTF_8));
        }
      } else {
        readVarint(in);
      }
    }
    return arguments;
  }

  private static int readVarint(DataInputStream in) throws IOException {
    int value = 0;
    for (int shift = 0; ; shift += 7) {
      int b = in.readUnsignedByte();
      value |= (b & 0x7f) << shift;
      if (b < 0x80) {
        return value;
      }
    }
  }

  private static void writeVarint(OutputStream out, int value) throws IOException {
    for (; value >= 0x80; value >>>= 7) {
      out.write(value & 0x7f | 0x80);
    }
    out.write(value);
  }

  /** Arguments: the jar to write, a file that says who compiled, and the sources. */
  private int compile(List<String> args, String who, Writer output) throws IOException {
    Files.writeString(Path.of(args.get(1)), who + "\n");
    TreeMap<String, ByteArrayOutputStream> classes = new TreeMap<>();
    StandardJavaFileManager files = compiler.getStandardFileManager(null, null, null);
    JavaFileManager inMemory = new ForwardingJavaFileManager<JavaFileManager>(files) {
      @Override
      public JavaFileObject getJavaFileForOutput(Location location, String name, JavaFileObject.Kind kind, FileObject sibling) {
        URI uri = URI.create("memory:///" + name.replace('.', '/') + kind.extension);
        return new SimpleJavaFileObject(uri, kind) {
          @Override
          public OutputStream openOutputStream() {
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            classes.put(name.replace('.', '/') + ".class", bytes);
            return bytes;
          }
        };
      }
    };
    boolean ok = compiler.getTask(output, inMemory, null, List.of("-proc:none"), null,
        files.getJavaFileObjectsFromStrings(args.subList(2, args.size()))).call();
    files.close();
    if (!ok) {
      return 1;
    }
    try (ZipOutputStream jar = new ZipOutputStream(Files.newOutputStream(Path.of(args.get(0))))) {
      for (Map.Entry<String, ByteArrayOutputStream> c : classes.entrySet()) {
        ZipEntry entry = new ZipEntry(c.getKey());
        entry.setTime(1_000_000_000_000L);
        jar.putNextEntry(entry);
        c.getValue().writeTo(jar);
      }
    }
    return 0;
  }
}

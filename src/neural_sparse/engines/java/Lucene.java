import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.standard.StandardAnalyzer;
import org.apache.lucene.analysis.tokenattributes.CharTermAttribute;
import org.apache.lucene.document.Document;
import org.apache.lucene.document.FeatureField;
import org.apache.lucene.document.Field;
import org.apache.lucene.document.StoredField;
import org.apache.lucene.document.TextField;
import org.apache.lucene.index.DirectoryReader;
import org.apache.lucene.index.IndexWriter;
import org.apache.lucene.index.IndexWriterConfig;
import org.apache.lucene.index.Term;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.MatchNoDocsQuery;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.ScoreDoc;
import org.apache.lucene.search.TermQuery;
import org.apache.lucene.store.FSDirectory;

/** fill FOLDER | search FOLDER k | bm25 FOLDER k: see engines/lucene.py, which writes and reads the files. */
public class Lucene {
  private static final String VECTOR = "vector", TEXT = "text", ROW = "row";
  private static final int WARM = 200;

  public static void main(String[] arguments) throws IOException {
    Path folder = Path.of(arguments[1]);
    if (arguments[0].equals("fill")) fill(folder);
    else search(folder, Integer.parseInt(arguments[2]), arguments[0].equals("bm25"));
  }

  private static DataInputStream open(Path file) throws IOException {
    return new DataInputStream(new BufferedInputStream(Files.newInputStream(file), 1 << 20));
  }

  private static String text(DataInputStream in) throws IOException {
    return new String(in.readNBytes(in.readInt()), StandardCharsets.UTF_8);
  }

  /** documents: count; of each text, features (name, weight). Prints nanoseconds. */
  private static void fill(Path folder) throws IOException {
    long started = System.nanoTime();
    try (FSDirectory directory = FSDirectory.open(folder.resolve("index"));
        IndexWriter writer = new IndexWriter(directory, new IndexWriterConfig(new StandardAnalyzer()));
        DataInputStream in = open(folder.resolve("documents"))) {
      int documents = in.readInt();
      for (int row = 0; row < documents; row++) {
        Document document = new Document();
        document.add(new StoredField(ROW, row));
        document.add(new TextField(TEXT, text(in), Field.Store.NO));
        int features = in.readInt();
        for (int at = 0; at < features; at++) document.add(new FeatureField(VECTOR, text(in), in.readFloat()));
        writer.addDocument(document);
      }
      writer.forceMerge(1); // as a finished collection is served
    }
    System.out.println(System.nanoTime() - started);
  }

  /** queries: count; of each text, features (name, weight). Writes found: of each nanoseconds, count, (row, score). */
  private static void search(Path folder, int k, boolean words) throws IOException {
    try (FSDirectory directory = FSDirectory.open(folder.resolve("index"));
        DirectoryReader reader = DirectoryReader.open(directory);
        DataInputStream in = open(folder.resolve("queries"));
        DataOutputStream out =
            new DataOutputStream(new BufferedOutputStream(Files.newOutputStream(folder.resolve("found"))))) {
      IndexSearcher searcher = new IndexSearcher(reader);
      searcher.setQueryCache(null);
      Query[] queries = new Query[in.readInt()];
      Analyzer analyzer = new StandardAnalyzer();
      for (int row = 0; row < queries.length; row++) {
        String text = text(in);
        BooleanQuery.Builder sparse = new BooleanQuery.Builder();
        int features = in.readInt();
        for (int at = 0; at < features; at++) {
          sparse.add(FeatureField.newLinearQuery(VECTOR, text(in), in.readFloat()), BooleanClause.Occur.SHOULD);
        }
        queries[row] = words ? bm25(analyzer, text) : features == 0 ? new MatchNoDocsQuery() : sparse.build();
      }
      for (int row = 0; row < WARM && queries.length > 0; row++) searcher.search(queries[row % queries.length], k);
      for (Query query : queries) {
        long started = System.nanoTime();
        ScoreDoc[] hits = searcher.search(query, k).scoreDocs;
        out.writeLong(System.nanoTime() - started);
        out.writeInt(hits.length);
        for (ScoreDoc hit : hits) {
          out.writeInt(searcher.storedFields().document(hit.doc).getField(ROW).numericValue().intValue());
          out.writeFloat(hit.score);
        }
      }
    }
  }

  private static Query bm25(Analyzer analyzer, String text) throws IOException {
    BooleanQuery.Builder query = new BooleanQuery.Builder();
    boolean any = false;
    try (TokenStream tokens = analyzer.tokenStream(TEXT, text)) {
      CharTermAttribute term = tokens.addAttribute(CharTermAttribute.class);
      tokens.reset();
      while (tokens.incrementToken()) {
        query.add(new TermQuery(new Term(TEXT, term.toString())), BooleanClause.Occur.SHOULD);
        any = true;
      }
      tokens.end();
    }
    return any ? query.build() : new MatchNoDocsQuery();
  }
}
